# SPDX-License-Identifier: Apache-2.0
"""What a person sees of the demo: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from acmgproxy.demo.traffic import percentile

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, RenderableType

    from acmgproxy.demo.traffic import PhaseCount, Tally

__all__ = ["View"]

_BAR_CELLS = 20
_RATE_WINDOW_S = 1.0


class View:
    """Shows a tally while it grows.

    Args:
        console: where to; a terminal gets the table.
        tally: what to show.
    """

    def __init__(self, console: Console, tally: Tally) -> None:
        self.retries = 0
        self._console = console
        self._tally = tally
        self._start = perf_counter()
        self._rate = 0.0
        self._rate_from = (self._start, 0)
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, text: str) -> None:
        """Tell what was just done; it stays on the screen."""
        self._console.print(Text(f"{perf_counter() - self._start:6.1f} s  {text}"), soft_wrap=True)

    def phase_ended(self, phase: PhaseCount) -> None:
        """Tell what the phase saw; the table shows it already."""
        if self._live is None:
            first, second = phase.observed
            self.event(
                f"{phase.title}: {sum(phase.counts)} answers, v1 {first:.1f} % and v2 {second:.1f} %"
                f" (weights {phase.weights[0]}/{phase.weights[1]}), {phase.failed} failed, {self._numbers()}"
            )

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in ("", "weights", "answers", "v1", "v2", "", "failed"):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for phase in self._tally.phases:
            first, second = phase.observed
            table.add_row(
                phase.title,
                f"{phase.weights[0]}/{phase.weights[1]}",
                str(sum(phase.counts)),
                f"{first:.1f} %",
                f"{second:.1f} %",
                _bar(first, second),
                Text(str(phase.failed), style="bold red" if phase.failed else "green"),
            )
        return Group(table, Text(self._numbers(), style="dim"))

    def _numbers(self) -> str:
        now = perf_counter()
        since, requests = self._rate_from
        if now - since >= _RATE_WINDOW_S:
            self._rate = (self._tally.requests - requests) / (now - since)
            self._rate_from = (now, self._tally.requests)
        recent = self._tally.recent_ms
        return (
            f"{self._rate:.0f} requests/s   p50 {percentile(recent, 50):.1f} ms   p99 {percentile(recent, 99):.1f} ms"
            f"   {self.retries} retries   {self._tally.failed} failed"
        )


def _bar(first: float, second: float) -> Text:
    """Draw the split."""
    if not first + second:
        return Text(" " * _BAR_CELLS)
    cells = round(_BAR_CELLS * first / 100)
    return Text.assemble(("█" * cells, "cyan"), ("█" * (_BAR_CELLS - cells), "magenta"))
