# SPDX-License-Identifier: Apache-2.0
"""A table of results: rows of a peer and a case, each with the value of every round.

The order is rounds over cases over peers, and every other round goes backwards, so that what the machine does meanwhile meets all
alike. Rounds are kept apart: a result is the median of them, and their range is told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.load import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.peers import Running
    from bench.suite.ground import Figures

__all__ = ["Case", "Row", "interleave"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to measure a peer; `labels` tell it from the others of its table."""

    labels: Mapping[str, Any]
    measure: Callable[[Running], Figures]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.labels.items())


@dataclass(slots=True, kw_only=True)
class Row:
    """What a peer did in a case: of every metric the value of each round."""

    peer: str
    labels: Mapping[str, Any]
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Figures) -> None:
        """Add a round."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"peer": self.peer, **self.labels, "values": self.values}


def interleave(peers: Mapping[str, Running], cases: Sequence[Case], *, rounds: int, step: Callable[[str], None]) -> list[Row]:
    """Measure every peer in every case so many times.

    Raises:
        LoadError: a request failed.
    """
    rows = [Row(peer=name, labels=case.labels) for case in cases for name in peers]
    order = [(case, name, running) for case in cases for name, running in peers.items()]
    pairs = list(zip(rows, order, strict=True))
    for number in range(1, rounds + 1):
        for row, (case, name, running) in pairs if number % 2 else reversed(pairs):
            step(f"round {number} of {rounds}: {case}: {name}")
            try:
                row.add(case.measure(running))
            except LoadError as exc:
                msg = f"{name}, {case}: {exc}"
                raise LoadError(msg) from exc
    return rows
