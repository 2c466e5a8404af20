# SPDX-License-Identifier: Apache-2.0
"""The model of a big cluster agrees with what can be calculated, and the document says what it was given."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bench.scale_document import main, slopes, write
from bench.scale_model import (
    ASSUMED,
    MEASURED,
    Cluster,
    TokenBucket,
    fail_open,
    gateways_needed,
    percentile,
    propagate,
    recapture,
    rollout,
)

if TYPE_CHECKING:
    from pathlib import Path

QUIET = Cluster(gateways=3, workers=2, watchers=0, changes_per_s=1.0)


class TestPropagation:
    def test_the_same_seed_gives_the_same_times(self) -> None:
        assert propagate(QUIET, seed=4) == propagate(QUIET, seed=4)
        assert propagate(QUIET, seed=4) != propagate(QUIET, seed=5)

    def test_without_queues_it_is_the_sum_of_the_steps(self) -> None:
        exact = replace(ASSUMED, commit_ms=0.0, network_ms=0.0, fan_out_us=0.0)
        found = propagate(
            replace(QUIET, changes_per_s=0.5), measured=replace(MEASURED, supervisor_us=400, worker_us=100), assumed=exact
        )
        assert found.p50_ms == pytest.approx(0.5)

    def test_a_queue_waits_as_the_formula_says(self) -> None:
        """M/D/1: the mean wait is rho / (2 mu (1 - rho)); the median of the time lies between service alone and three waits."""
        service_s, rate = 0.005, 100.0
        exact = replace(ASSUMED, commit_ms=0.0, network_ms=0.0, fan_out_us=0.0)
        one = Cluster(gateways=1, workers=1, watchers=0, changes_per_s=rate)
        found = propagate(
            one, seconds=300.0, measured=replace(MEASURED, supervisor_us=service_s * 1e6, worker_us=0.0), assumed=exact
        )
        rho = rate * service_s
        mean_wait_ms = rho * service_s / (2 * (1 - rho)) * 1e3
        assert found.supervisor_busy == pytest.approx(0.5)
        assert service_s * 1e3 < found.p50_ms < service_s * 1e3 + 3 * mean_wait_ms
        assert found.p99_ms > service_s * 1e3 + 3 * mean_wait_ms

    def test_more_nodes_more_gateways_and_more_changes_take_longer(self) -> None:
        small = propagate(Cluster(gateways=5, workers=2, watchers=500, changes_per_s=20.0))
        nodes = propagate(Cluster(gateways=5, workers=2, watchers=5000, changes_per_s=20.0))
        changes = propagate(Cluster(gateways=5, workers=2, watchers=5000, changes_per_s=80.0))
        assert small.p50_ms < nodes.p50_ms < changes.p50_ms
        assert small.busy == pytest.approx(505 * 20 * 15e-6 / 8)
        assert changes.busy == pytest.approx(5005 * 80 * 15e-6 / 8)

    def test_an_api_server_that_is_too_busy_falls_behind(self) -> None:
        found = propagate(Cluster(gateways=5, workers=2, watchers=5000, changes_per_s=200.0), seconds=20.0)
        assert found.busy > 1
        assert found.p99_ms > 1000


class TestWrites:
    def test_a_bucket_lets_its_burst_through_and_then_keeps_its_pace(self) -> None:
        bucket = TokenBucket(10.0, 3)
        assert [bucket.take(0.0) for _ in range(5)] == pytest.approx([0.0, 0.0, 0.0, 0.1, 0.2])
        assert bucket.take(100.0) == 100.0

    def test_failing_open_is_patience_and_then_the_slower_of_the_two(self) -> None:
        one, many = fail_open(1), fail_open(1030)
        assert one.last_s == pytest.approx(MEASURED.fail_open_after_s + ASSUMED.proxy_ms / 1e3)
        assert many.last_s == pytest.approx(one.last_s + 1000 / ASSUMED.manager_writes_per_s)
        quick = fail_open(1030, assumed=replace(ASSUMED, manager_writes_per_s=1e9))
        assert quick.last_s == pytest.approx(one.last_s + (1030 - MEASURED.controller_burst) / MEASURED.controller_writes_per_s)

    def test_capturing_again_takes_two_writes_each(self) -> None:
        found = recapture(1100)
        patience = MEASURED.recapture_after_s + ASSUMED.proxy_ms / 1e3
        assert found.last_s == pytest.approx(patience + (2200 - MEASURED.controller_burst) / MEASURED.controller_writes_per_s)
        assert found.p50_s < found.last_s

    def test_a_rollout_writes_each_slice_twice_for_each_gateway(self) -> None:
        found = rollout(1000, 10, nodes=1)
        assert (found.writes, found.seconds) == (20_000, 198.0)
        assert rollout(1000, 10, nodes=50).bytes_per_s == 50 * found.bytes_per_s
        assert rollout(10, 1, nodes=1).seconds == 0


def test_percentiles_and_gateways() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert gateways_needed(100_000, 24.0, cpus=4, target=0.5, spare=1) == 3


def point(services: int, endpoints: int, captured: int) -> dict[str, Any]:
    """Make a point of a plane with known slopes."""
    count = services * endpoints
    figures = {
        "supervisor_mb": 70 + services * 0.015 + captured * 0.005 + count * 0.002,
        "worker_mb": 30 + services * 0.008 + captured * 0.002 + count * 0.001,
        "source_sync_s": 2.0, "ready_s": 4.0,
    }  # fmt: skip
    return {"options": {"services": services, "endpoints": endpoints, "captured": captured}, "figures": figures}


POINTS = {
    "machine": {"cpus": 2, "cpu": "x", "python": "CPython 3", "load_average": 0.1},
    "date": "2026-01-01",
    "points": [point(1000, 10, 100), point(5000, 10, 500), point(1000, 10, 1000), point(1000, 30, 100)],
}
QUICK = {"rows": [{"name": "acmgproxy", "connections": 64, "cpu_us_per_request": 20.0}, {"name": "envoy", "connections": 64}]}


class TestDocument:
    def test_slopes_are_found(self) -> None:
        found = slopes(POINTS["points"], "supervisor")  # type: ignore[arg-type]
        assert (found.base, found.service, found.captured, found.endpoint) == pytest.approx((70e6, 15e3, 5e3, 2e3))
        assert found.total_mb(10, 1, 100) == pytest.approx(70.355)

    def test_it_says_what_is_measured_and_what_is_not(self, tmp_path: Path) -> None:
        paths = write(QUICK, POINTS, tmp_path)
        text = paths[0].read_text()
        assert "A request costs 20.0 us of processor time **[m]**" in text
        assert "| 500,000 | 10.0 | 7 |" in text
        assert "| supervisor | 70,000.0 | 15.0 | 5.0 | 2.0 |" in text
        assert "falls behind" in text
        for path in paths[1:]:
            assert ET.parse(path).getroot().tag.endswith("svg")

    def test_results_that_are_missing_are_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "quick.json").write_text(json.dumps(QUICK))
        assert main(["--results", str(tmp_path), "--output", str(tmp_path)]) == 1
        assert "scale_points.json cannot be read" in capsys.readouterr().err
        (tmp_path / "scale_points.json").write_text(json.dumps(POINTS))
        assert main(["--results", str(tmp_path), "--output", str(tmp_path)]) == 0
        assert (tmp_path / "scale.md").exists()
