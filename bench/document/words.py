# SPDX-License-Identifier: Apache-2.0
"""Words for figures: tables, and comparisons that say what the figures say, whatever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.document.results import Spread

__all__ = ["NAMES", "cell", "compared", "listed", "table"]

NAMES = {
    "direct": "no proxy",
    "acmgproxy": "this gateway",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "one Envoy",
    "envoy-two-hops": "two Envoys",
}
"""What the peers are called in sentences and tables."""


def cell(value: Spread | None, digits: int = 1) -> str:
    """Return a table's cell."""
    return "-" if value is None else value.text(digits)


def compared(ratio: Spread | None, other: str) -> str:
    """Say how much more or less something is than `other`: "27 % less than one Envoy"."""
    if ratio is None:
        return f"not comparable with {other}, which was not measured"
    if ratio.low <= 1 <= ratio.high and ratio.low != ratio.high:
        return f"{ratio.median:.2f} times {other}, which the rounds cannot tell from equal ({ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.median >= 2:
        return f"{ratio.median:.1f} times {other}"
    change = (ratio.median - 1) * 100
    return f"{abs(change):.0f} % {'less' if change < 0 else 'more'} than {other}"


def listed(parts: Sequence[str]) -> str:
    """Join parts of a sentence with commas and an "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)
