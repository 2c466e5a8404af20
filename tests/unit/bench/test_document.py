# SPDX-License-Identifier: Apache-2.0
"""The performance document says what the results say, whatever they are."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest

from bench.document import main, write
from bench.document.results import Results, Spread
from bench.document.savings import Assumptions, savings
from bench.document.sections import rates
from bench.document.verdicts import judge
from bench.document.words import compared

if TYPE_CHECKING:
    from pathlib import Path

PEERS = ("direct", "acmgproxy", "nginx", "haproxy", "envoy", "envoy-two-hops")
COST = {"direct": 5.0, "acmgproxy": 20.0, "nginx": 15.0, "haproxy": 14.0, "envoy": 50.0, "envoy-two-hops": 110.0}


def _row(peer: str, cost: float, **labels: object) -> dict[str, Any]:
    values: dict[str, list[float]] = {
        "p50_us": [9 * cost, 10 * cost, 11 * cost],
        "p90_us": [20 * cost] * 3,
        "p99_us": [30 * cost] * 3,
        "p999_us": [40 * cost] * 3,
        "rps": [1e6 / cost] * 3,
        "lag_p99_us": [7.0] * 3,
        "client_cpu_us": [12.0] * 3,
    }
    if peer != "direct":
        values["cpu_us"] = [cost, cost, cost]
    return {"peer": peer, **labels, "values": values}


def _data(ours: float = 20.0) -> dict[str, Any]:
    cost = {**COST, "acmgproxy": ours}
    shapes = [(connections, 10, False) for connections in (1, 16, 64, 512)] + [(16, 10, True)]
    served = [peer for peer in PEERS if peer != "direct"]
    memory = (
        ("route", "worker", 5.0),
        ("route", "supervisor", 9.0),
        ("endpoint", "worker", 1.0),
        ("endpoint", "supervisor", 2.0),
    )

    def footprint(state: str) -> list[dict[str, Any]]:
        values = {"rss_mb": [90.0], "pss_mb": [60.0], "worker_rss_mb": [34.0], "processes": [2]}
        return [{"peer": peer, "state": state, "values": values} for peer in served]

    return {
        "date": "2026-11-23",
        "minutes": 9.5,
        "commit": "0123456789ab",
        "machine": {
            "cpu": "x", "cpus": 2, "load_cpus": [0], "proxy_cpus": [1], "memory_mb": 8000, "kernel": "Linux", "arch": "x86_64",
            "python": "CPython 3", "python_optimized": False, "load_average": 0.1,
        },
        "versions": {"wrk": "wrk 4"},
        "missing": {},
        "failed": {},
        "plan": {"rounds": 3, "seconds": 0.6, "rate_rounds": 3, "rate_seconds": 1.5, "churn_slices": 3, "churn_changes": 100},
        "configurations": {},
        "measured": {"rates": "2026-11-23, commit 0123456789ab", "churn": "2026-11-20, commit ba9876543210"},
        "tables": {
            "at_rest": footprint("rest"),
            "connections": [
                _row(peer, cost[peer], connections=connections, headers=headers, distinct=distinct)
                for connections, headers, distinct in shapes
                for peer in PEERS
            ],
            "new_connections": [_row(peer, 3 * cost[peer], connections=16, headers=10, distinct=False) for peer in PEERS],
            "client": [
                _row(peer, cost[peer] * factor, client=name, rate=500)
                for peer in ("direct", "acmgproxy") for name, factor in (("bench.openloop", 1.0), ("h2load", 0.9))
            ],
            "rates": [_row(peer, cost[peer], rate=rate) for rate in (2_000, 10_000) for peer in PEERS if peer != "haproxy"],
            "bodies": [
                _row(peer, 10 * cost[peer], way=way, bytes=size)
                for way in ("down", "up") for size in (1024, 1024**2) for peer in PEERS
            ],
            "under_load": footprint("512 connections"),
            "table_hosts": [_row(peer, cost[peer], hosts=hosts) for hosts in (10, 10_000) for peer in ("acmgproxy", "envoy")],
            "workers": [_row(peer, cost[peer], workers=number, connections=64) for number in (1, 2) for peer in served],
            "churn": [
                {**_row("acmgproxy", ours * slower, kind=kind, rate=2000), "values": {
                    **_row("acmgproxy", ours * slower)["values"], "changes": [100.0], "versions": [99.0]}}
                for kind, slower in (("quiet", 1.0), ("churn", 1.3))
            ],
            "memory": [
                {"peer": "acmgproxy", "name": name, "count": 1000, "process": process,
                 "values": {"each_kib": [kib], "later_kib": [kib], "peak_mb": [40.0]}}
                for name, process, kib in memory
            ],
        },
    }  # fmt: skip


def _words(data: dict[str, Any]) -> dict[str, str]:
    return {f"{verdict.figure}, {verdict.place}": verdict.word for verdict in judge(Results(data))}


def test_a_verdict_follows_the_median() -> None:
    words = _words(_data())
    assert words["CPU per request / nginx proxy_pass, 16 connections"] == "meets the aim"
    assert words["CPU per request / one Envoy hop, 16 connections"] == "meets the must"
    assert words["p99 under churn / quiet p99, 100 changes/s"] == "meets the must"
    assert words["p99 delay / two Envoys, 10,000 requests/s"] == "meets the aim"
    words = _words(_data(ours=40.0))
    assert words["CPU per request / nginx proxy_pass, 16 connections"] == "misses"
    assert words["CPU per request / two Envoys, 64 connections"] == "misses"


def test_what_was_not_measured_is_not_met() -> None:
    data = _data()
    data["tables"] = {}
    assert set(_words(data).values()) == {"not measured"}


def test_the_document_says_misses_when_it_misses(tmp_path: Path) -> None:
    write(Results(_data(ours=300.0)), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| CPU per request / nginx proxy_pass | 16 connections | 1.8 | 1.5 | 20.00 | misses |" in text
    assert "20.0 times nginx" in text
    assert "less than was hoped for" in text
    write(Results(_data()), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "33 % more than nginx, 43 % more than HAProxy, 60 % less than one Envoy and 82 % less than two Envoys" in text
    assert "it saves 82 to 82 % at p50: more than was hoped for" in text
    assert "30 % more than when nothing changes" in text


def test_a_full_cpu_is_said() -> None:
    """Two Envoys at 110 us and 10,000 requests/s need more than one CPU."""
    assert "two Envoys at 10,000 requests/s (110%)" in rates(Results(_data())).text


def test_the_client_is_held_against_another() -> None:
    text = rates(Results(_data())).text
    assert "measure a p50 of 50 (45 to 55) us and 45 (40 to 50) us for no proxy and 200 (180 to 220) us and 180" in text


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        {path.name: path.read_bytes() for path in write(Results(_data()), tmp_path / name)} for name in ("first", "second")
    )
    assert first == second
    assert len(first) == 5
    assert all(len(data) < 20_000 for name, data in first.items() if name.endswith(".svg"))


def test_every_plot_is_there_and_is_xml(tmp_path: Path) -> None:
    write(Results(_data()), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    plots = sorted(path.name for path in (tmp_path / "performance").iterdir())
    assert plots == ["churn.svg", "cost-over-table-size.svg", "cpu-per-request.svg", "latency-over-rate.svg"]
    for name in plots:
        assert f"(performance/{name})" in text
        assert ET.fromstring((tmp_path / "performance" / name).read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_run_of_some_tables_makes_a_document_without_the_others(tmp_path: Path) -> None:
    data = _data()
    data["tables"] = {"connections": data["tables"]["connections"]}
    data["failed"] = {"churn": "an answer was 504"}
    (tmp_path / "performance").mkdir()
    (tmp_path / "performance" / "old.svg").write_text("")
    write(Results(data), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert text.count("Not measured in this run.") >= 5
    assert "Not measured, because a request failed: churn." in text
    assert [path.name for path in (tmp_path / "performance").iterdir()] == ["cpu-per-request.svg"]


def test_a_table_of_an_earlier_run_is_named(tmp_path: Path) -> None:
    write(Results(_data()), tmp_path)
    assert "Measured before: churn (2026-11-20, commit ba9876543210)." in (tmp_path / "performance.md").read_text()


def test_a_missing_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(tmp_path / "none.json"), "--output", str(tmp_path)]) == 1
    assert "make bench writes it" in capsys.readouterr().err
    (tmp_path / "full.json").write_text(json.dumps(_data()))
    assert main(["--results", str(tmp_path / "full.json"), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "performance.md").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, 0.6, 0.7], "40 % less than nginx"),
        ([1.2, 1.3, 1.4], "30 % more than nginx"),
        ([2.4, 2.5], "2.5 times nginx"),
        ([0.9, 1.0, 1.1], "1.00 times nginx, which the rounds cannot tell from equal (0.90 to 1.10)"),
        ([1.0], "0 % more than nginx"),
    ],
)
def test_a_comparison_says_no_more_than_the_rounds_do(values: list[float], said: str) -> None:
    assert compared(Spread.of(values), "nginx") == said


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that is three times slower in one round is so for both."""
    rows = [{"peer": "a", "values": {"cpu_us": [10, 30, 10]}}, {"peer": "b", "values": {"cpu_us": [20, 60, 20]}}]
    results = Results({"tables": {"t": rows}})
    assert results.ratio("t", "cpu_us", {"peer": "a"}, {"peer": "b"}) == Spread(median=0.5, low=0.5, high=0.5)
    assert results.ratio("t", "cpu_us", {"peer": "a"}, {"peer": "c"}) is None


def test_the_arithmetic_of_a_cluster() -> None:
    found = savings(Results(_data()), Assumptions(pods=1000, requests_per_pod=10, services=100, busy=0.5, replicas=3))
    assert found is not None
    assert found.sidecar_cores == pytest.approx(1.1)
    assert found.gateway_cores == pytest.approx(0.2)
    assert found.workers == 3
    assert found.sidecar_gb == pytest.approx(60.0)
    assert found.worker_with_objects_mb == pytest.approx(34 + (100 * 5 + 1000 * 1) / 1024)
    assert found.gateway_gb == pytest.approx((3 * found.worker_with_objects_mb + 3 * 56) / 1000)
    busier = savings(Results(_data()), Assumptions(requests_per_pod=200))
    assert busier is not None
    assert busier.workers == 8  # 4 cores at half
