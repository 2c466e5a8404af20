# SPDX-License-Identifier: Apache-2.0
"""Lines out of pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.kube.lines import EndlessLineError, LineSplitter


@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(0, 60)))
def test_the_lines_do_not_depend_on_how_the_bytes_come(parts: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(parts)
    *expected, rest = data.split(b"\n")
    splitter = LineSplitter(1000)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = [line for begin, end in pairwise(places) for line in splitter.feed(data[begin:end])]
    assert found == [line for line in expected if line]
    assert splitter.is_within_line == bool(rest)
    assert not splitter.too_long


@given(st.lists(st.integers(1, 30), min_size=1), st.integers(1, 40))
def test_lines_that_are_too_long_are_left_out_however_they_come(sizes: list[int], piece: int) -> None:
    data = b"".join(b"x" * size + b"\n" for size in sizes)
    splitter = LineSplitter(10)
    found = [line for at in range(0, len(data), piece) for line in splitter.feed(data[at : at + piece])]
    assert [len(line) for line in found] == [size for size in sizes if size <= 10]
    assert splitter.too_long == sum(size > 10 for size in sizes)


def test_a_line_that_is_too_long_is_not_kept() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"x" * 30) == []
    assert repr(splitter) == "<LineSplitter 0 bytes waiting, 0 lines too long>"
    assert splitter.is_within_line
    assert splitter.feed(b"x\nab\n") == [b"ab"]
    assert splitter.too_long == 1
    assert not splitter.is_within_line


def test_a_line_without_end_is_given_up() -> None:
    splitter = LineSplitter(10)
    for _ in range(3):
        splitter.feed(b"x" * 11)
    with pytest.raises(EndlessLineError, match="more than 44 bytes"):
        splitter.feed(b"x" * 11)
