# SPDX-License-Identifier: Apache-2.0
"""What it costs to take chunks apart and to frame them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.h1.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from acmgproxy.h1.limits import Limits

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_LIMITS = Limits()


@pytest.mark.parametrize(("size", "count"), [(130, 1), (8192, 8), (65536, 1)])
def test_decode(benchmark: BenchmarkFixture, size: int, count: int) -> None:
    """A whole body that arrived in one piece."""
    data = encode_chunk(b"x" * size) * count + LAST_CHUNK
    pieces, rest = benchmark(lambda: ChunkedDecoder(_LIMITS).feed(data))
    assert (len(pieces), rest) == (count, b"")


@pytest.mark.parametrize("size", [130, 65536])
def test_encode(benchmark: BenchmarkFixture, size: int) -> None:
    """One piece of body that goes on."""
    assert benchmark(encode_chunk, b"x" * size).endswith(b"x\r\n")
