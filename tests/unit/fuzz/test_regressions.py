# SPDX-License-Identifier: Apache-2.0
"""Whatever the fuzzer once broke, and every seed it starts from, keeps its invariant. Needs no fuzzer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fuzz import exchange
from fuzz.targets import REGRESSIONS, TARGETS
from tests.strict_http import read_requests

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = sorted(path for path in REGRESSIONS.glob("*/*") if path.is_file())


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    exchange.release()


@pytest.mark.parametrize("name", TARGETS)
def test_regressions_stay_mended(name: str) -> None:
    for path in FILES:
        if path.parent.name == name:
            TARGETS[name].check(path.read_bytes())


def test_every_regression_belongs_to_a_target() -> None:
    assert {path.parent.name for path in FILES} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_keep_the_invariant(name: str) -> None:
    seeds = TARGETS[name].seeds
    assert len(seeds) > 20
    for seed in seeds:
        TARGETS[name].check(seed)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nmade-up: 1\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ],
    ids=["a cut answer", "another body", "a field made up", "a field lost"],
)
def test_a_gateway_that_errs_is_found(given: bytes, got: bytes) -> None:
    sent, _ = read_requests(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    outcome = exchange.Outcome(arrived=sent, answers=[given], written=got)
    with pytest.raises(AssertionError):
        exchange.check_relayed(sent, outcome, closes=False)


def test_a_smuggled_request_is_found() -> None:
    sent, _ = read_requests(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(AssertionError):
        exchange.check_arrived(sent, exchange.Outcome(arrived=sent * 2))
