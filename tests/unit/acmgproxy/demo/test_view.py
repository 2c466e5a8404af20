# SPDX-License-Identifier: Apache-2.0
"""What is printed: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from acmgproxy.demo.traffic import Tally
from acmgproxy.demo.view import View


@pytest.fixture
def tally() -> Tally:
    tally = Tally()
    phase = tally.begin_phase("split", (90, 10))
    for number in range(20):
        tally.answered(phase, "v2" if number % 10 == 0 else "v1", 1.5)
    return tally


def _print(tally: Tally, *, terminal: bool) -> str:
    stream = io.StringIO()
    with View(Console(file=stream, force_terminal=terminal, width=120, highlight=False), tally) as view:
        view.retries = 7
        view.event("something was done")
        view.phase_ended(tally.phases[0])
    return stream.getvalue()


def test_plain_lines_tell_each_event_and_each_phase(tally: Tally) -> None:
    first, second = _print(tally, terminal=False).splitlines()
    assert first.endswith(" s  something was done")
    assert "split: 20 answers, v1 90.0 % and v2 10.0 % (weights 90/10), 0 failed" in second
    assert "p50 1.5 ms   p99 1.5 ms   7 retries   0 failed" in second


def test_terminal_shows_a_table_with_the_split(tally: Tally) -> None:
    tally.failed_with(tally.begin_phase("v2 killed", (50, 50)), "503")
    text = _print(tally, terminal=True)
    assert "something was done" in text
    for part in ("90/10", "90.0 %", "50/50", "0.0 %", "█", "7 retries   1 failed"):
        assert part in text
    assert "split: 20 answers" not in text
