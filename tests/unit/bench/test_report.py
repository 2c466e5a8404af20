# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from bench.load import Sample
from bench.report import judge, show, write
from bench.run import Result, Row

if TYPE_CHECKING:
    from pathlib import Path


def _row(name: str, *, connections: int = 16, cpu: float = 10.0, p50: int = 100) -> Row:
    return Row(
        name=name,
        connections=connections,
        headers=10,
        rps=1000.0,
        p50_us=p50,
        p99_us=2 * p50,
        cpu_us_per_request=cpu,
        rss_mb=20.0,
    )


def _result(rows: list[Row]) -> Result:
    machine: dict[str, object] = {
        "cpu": "x",
        "cpus": 2,
        "kernel": "Linux",
        "load_average": 0.0,
        "python": "CPython 3",
        "python_optimized": True,
        "load_cpus": [0],
        "proxy_cpus": [1],
    }
    return Result(machine=machine, versions={"envoy": "Envoy 1"}, missing={"haproxy": "haproxy is not installed"}, rows=rows)


def test_percentiles_are_exact_over_all_bursts() -> None:
    first, second = Sample(requests=3), Sample(requests=97)
    first.latencies_us.update({10: 1, 20: 2})
    second.latencies_us.update({20: 47, 30: 49, 900: 1})
    first.add(second)
    assert first.requests == 100
    assert [first.percentile_us(percent) for percent in (1, 50, 51, 99, 99.5, 100)] == [10, 20, 30, 30, 900, 900]


@pytest.mark.parametrize(("cpu", "p50", "met"), [(24.0, 100, True), (24.1, 100, False), (24.0, 101, False)])
def test_targets_compare_with_envoy(cpu: float, p50: int, met: bool) -> None:
    rows = [
        row
        for connections in (16, 64)
        for row in (
            _row("acmgproxy", connections=connections, cpu=cpu, p50=p50),
            _row("envoy", connections=connections, cpu=40.0),
            _row("envoy-two-hops", connections=connections, p50=200),
        )
    ]
    assert all(verdict.is_met for verdict in judge(rows)) is met


def test_a_target_that_was_not_measured_is_missed() -> None:
    verdicts = judge([_row("acmgproxy")])
    assert verdicts
    assert not any(verdict.is_met for verdict in verdicts)


def test_missing_peers_are_said_on_screen_and_in_the_file(tmp_path: Path) -> None:
    screen = io.StringIO()
    result = _result([_row("direct", cpu=0.0), _row("acmgproxy", cpu=20.0), _row("envoy", cpu=40.0)])
    show(result, Console(file=screen, width=140))
    assert "MISSING haproxy: haproxy is not installed" in screen.getvalue()
    assert "0.50x" in screen.getvalue()
    write(result, tmp_path / "results" / "quick.json")
    document = json.loads((tmp_path / "results" / "quick.json").read_text())
    assert document["missing"] == {"haproxy": "haproxy is not installed"}
    assert set(document["rows"][0]) == {
        "name", "connections", "headers", "rps", "p50_us", "p99_us", "cpu_us_per_request", "rss_mb",
    }  # fmt: skip
