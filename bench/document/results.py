# SPDX-License-Identifier: Apache-2.0
"""Reading a results file: medians and ranges of the rounds, and ratios of two peers.

A ratio is taken round by round, since both peers were measured close together in each, and then told like any other figure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Results", "Spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of some values."""
        return cls(median=median(values), low=min(values), high=max(values))

    def text(self, digits: int = 1) -> str:
        """Return it for a table: the median, and the range unless there is none to tell."""
        low, middle, high = (f"{value:,.{digits}f}" for value in (self.low, self.median, self.high))
        return middle if low == high else f"{middle} ({low} to {high})"


class Results:
    """The figures of a run.

    Args:
        data: what `bench.full` wrote.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self._tables: dict[str, list[dict[str, Any]]] = data["tables"]

    def __repr__(self) -> str:
        return f"<Results {self.data['date']} {self.data['commit']} tables={list(self._tables)}>"

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file.

        Raises:
            OSError: it cannot be read.
        """
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def rows(self, table: str, **labels: object) -> list[dict[str, Any]]:
        """Return the rows of a table that have these labels."""
        rows = self._tables.get(table, [])
        return [row for row in rows if all(row.get(name) == value for name, value in labels.items())]

    def labels(self, table: str, name: str) -> list[Any]:
        """Return the different values of a label, in order of appearance."""
        return list(dict.fromkeys(row[name] for row in self.rows(table)))

    def find(self, table: str, metric: str, **labels: object) -> Spread | None:
        """Return a figure; None if it was not measured."""
        values = self._values(table, metric, labels)
        return Spread.of(values) if values else None

    def ratio(self, table: str, metric: str, one: dict[str, object], other: dict[str, object]) -> Spread | None:
        """Return how many times the figure of `one` is that of `other`, both given by labels; None if either was not measured."""
        ours, theirs = self._values(table, metric, one), self._values(table, metric, other)
        pairs = [(mine, its) for mine, its in zip(ours, theirs, strict=False) if its]
        return Spread.of([mine / its for mine, its in pairs]) if pairs else None

    def _values(self, table: str, metric: str, labels: dict[str, object]) -> list[float]:
        for row in self.rows(table, **labels):
            if metric in row["values"]:
                values: list[float] = row["values"][metric]
                return values
        return []
