# SPDX-License-Identifier: Apache-2.0
"""What the gateway is held to: a limit that it must keep and one that it aims at, and what a run says about both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.document.results import Results, Spread

__all__ = ["Verdict", "judge"]

OURS = "acmgproxy"
TEN_HEADERS: dict[str, object] = {"headers": 10, "distinct": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One figure in one place, with its limits."""

    figure: str
    place: str
    must: float
    aim: float
    value: Spread | None

    @property
    def word(self) -> str:
        """What is to be said: decided by the median; what was not measured was not met."""
        if self.value is None:
            return "not measured"
        if self.value.median <= self.aim:
            return "meets the aim"
        return "meets the must" if self.value.median <= self.must else "misses"


def judge(results: Results) -> list[Verdict]:
    """Hold a run to every limit."""
    return [*_cpu(results), *_delay(results), *_others(results)]


def _cpu(results: Results) -> list[Verdict]:
    limits = (
        ("nginx", "nginx proxy_pass", 1.8, 1.5),
        ("envoy", "one Envoy hop", 0.45, 0.35),
        ("envoy-two-hops", "two Envoys", 0.22, 0.17),
    )
    return [
        Verdict(
            figure=f"CPU per request / {name}",
            place=f"{connections} connections",
            must=must,
            aim=aim,
            value=_against(results, "connections", "cpu_us", peer, {"connections": connections, **TEN_HEADERS}),
        )
        for peer, name, must, aim in limits
        for connections in (16, 64)
    ]


def _delay(results: Results) -> list[Verdict]:
    places: list[tuple[str, str, dict[str, object]]] = [
        ("connections", f"{connections} connections", {"connections": connections, **TEN_HEADERS}) for connections in (1, 16, 64)
    ]
    places += [("rates", f"{rate:,} requests/s", {"rate": rate}) for rate in results.labels("rates", "rate")]
    return [
        Verdict(
            figure=f"{metric} delay / two Envoys",
            place=place,
            must=0.6,
            aim=0.4,
            value=_against(results, table, f"{metric}_us", "envoy-two-hops", labels),
        )
        for metric in ("p50", "p99")
        for table, place, labels in places
    ]


def _others(results: Results) -> list[Verdict]:
    body: dict[str, object] = {"way": "down", "bytes": 1024 * 1024}
    sizes = results.labels("table_hosts", "hosts") or [0]
    few: dict[str, object] = {"peer": OURS, "hosts": sizes[0]}
    many: dict[str, object] = {"peer": OURS, "hosts": sizes[-1]}
    quiet: dict[str, object] = {"kind": "quiet"}
    churn: dict[str, object] = {"kind": "churn"}
    return [
        Verdict(
            figure="CPU per 1 MiB answer / nginx",
            place="16 connections",
            must=1.2,
            aim=0.9,
            value=_against(results, "bodies", "cpu_us", "nginx", body),
        ),
        Verdict(
            figure=f"cost at {sizes[-1]:,} hosts / at {sizes[0]:,} hosts",
            place="CPU per request",
            must=1.05,
            aim=1.0,
            value=results.ratio("table_hosts", "cpu_us", many, few),
        ),
        Verdict(
            figure="p99 under churn / quiet p99",
            place=f"{results.data['plan']['churn_changes']} changes/s",
            must=1.5,
            aim=1.1,
            value=results.ratio("churn", "p99_us", churn, quiet),
        ),
        Verdict(
            figure="memory of a worker at rest, MB",
            place="resident",
            must=40,
            aim=30,
            value=results.find("at_rest", "worker_rss_mb", peer=OURS),
        ),
    ]


def _against(results: Results, table: str, metric: str, peer: str, labels: dict[str, object]) -> Spread | None:
    return results.ratio(table, metric, {"peer": OURS, **labels}, {"peer": peer, **labels})
