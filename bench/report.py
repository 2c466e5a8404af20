# SPDX-License-Identifier: Apache-2.0
"""What a run says: a table on screen with ratios, the targets it is held to, and a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from bench.run import Result, Row

__all__ = ["Target", "Verdict", "judge", "show", "write"]

_OURS = "acmgproxy"
_COLUMNS = ("", "req/s", "p50 us", "p99 us", "CPU us/req", "RSS MB", "CPU:envoy", "CPU:nginx", "p50:2 envoys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise: this gateway's `metric` is at most `limit` times that of `peer`, in the shapes named."""

    metric: str
    peer: str
    limit: float
    connections: tuple[int, ...]
    headers: tuple[int, ...]


TARGETS = (
    Target(metric="cpu_us_per_request", peer="envoy", limit=0.6, connections=(16, 64), headers=(10,)),
    Target(metric="p50_us", peer="envoy-two-hops", limit=0.5, connections=(16, 64), headers=(10,)),
)
"""Half a sidecar's CPU and half of two sidecars' latency are the reason to run this gateway at all; 0.6 leaves room for a noisy
machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target in one shape; `ratio` is None when a side was not measured."""

    target: Target
    connections: int
    headers: int
    ratio: float | None

    @property
    def is_met(self) -> bool:
        """Whether the promise was kept; what was not measured was not."""
        return self.ratio is not None and self.ratio <= self.target.limit

    def __str__(self) -> str:
        target = self.target
        seen = "not measured" if self.ratio is None else f"{self.ratio:.2f}x"
        where = f"{self.connections} connections, {self.headers} headers"
        return f"{target.metric} at most {target.limit}x {target.peer} ({where}): {seen}"


def judge(rows: Iterable[Row]) -> list[Verdict]:
    """Hold the rows to the targets."""
    found = {(row.name, row.connections, row.headers): row for row in rows}
    return [
        Verdict(
            target=target,
            connections=connections,
            headers=headers,
            ratio=_ratio(found.get((_OURS, connections, headers)), found.get((target.peer, connections, headers)), target.metric),
        )
        for target in TARGETS
        for connections in target.connections
        for headers in target.headers
    ]


def show(result: Result, console: Console) -> None:
    """Print versions, rows with ratios, what is missing, and the targets."""
    for name, version in result.versions.items():
        console.print(f"[bold]{name}[/]: {version}", highlight=False)
    machine = result.machine
    console.print(
        f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['kernel']}, load average {machine['load_average']} at the start;",
        f"load and upstream on CPU {machine['load_cpus']}, proxies on CPU {machine['proxy_cpus']}",
        highlight=False,
    )
    if not machine["python_optimized"]:
        console.print(f"{machine['python']} was built without --enable-optimizations", highlight=False)
    if not machine["proxy_cpus"]:
        console.print("[bold red]one CPU only: load and proxies share it, latencies say little[/]")
    console.print(_table(result.rows))
    if result.rows_distinct:
        console.print("The same with a head of its own for every request (X-Request-Id), so that nothing can be recognised:")
        console.print(_table(result.rows_distinct))
    for name, reason in result.missing.items():
        console.print(f"[bold red]MISSING[/] {name}: {reason}", highlight=False)
    for verdict in judge(result.rows):
        console.print(f"[{'green]met   ' if verdict.is_met else 'red]missed'}[/] {verdict}", highlight=False)


def write(result: Result, path: Path) -> None:
    """Write the result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.as_json(), indent=1) + "\n", encoding="utf-8")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for (connections, headers), group in groupby(rows, key=lambda row: (row.connections, row.headers)):
        table.add_section()
        table.add_row(f"[bold]{connections} connections, {headers} headers[/]")
        members = list(group)
        peers = {row.name: row for row in members}
        for row in members:
            cells = (
                row.name,
                f"{row.rps:,.0f}",
                f"{row.p50_us:,}",
                f"{row.p99_us:,}",
                f"{row.cpu_us_per_request:.1f}" if row.cpu_us_per_request else "-",
                f"{row.rss_mb:.0f}" if row.rss_mb else "-",
                _cell(_ratio(row, peers.get("envoy"), "cpu_us_per_request")),
                _cell(_ratio(row, peers.get("nginx"), "cpu_us_per_request")),
                _cell(_ratio(row, peers.get("envoy-two-hops"), "p50_us")),
            )
            table.add_row(*cells, style="bold cyan" if row.name == _OURS else None)
    return table


def _ratio(row: Row | None, base: Row | None, metric: str) -> float | None:
    if row is None or base is None:
        return None
    own, other = float(getattr(row, metric)), float(getattr(base, metric))
    return own / other if own and other else None


def _cell(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
