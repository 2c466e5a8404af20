# SPDX-License-Identifier: Apache-2.0
"""A soak's verdict: what explains a failure, what counts as growth, and the document that says so."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import msgspec
import pytest

from bench.soak.connections import kill_and_tell, peer_ports
from bench.soak.document import write
from bench.soak.records import Failure, Fault, Plan, Process, Result, Sample, Tally
from bench.soak.upstream import pattern
from bench.soak.verdict import GROWTH_FLOOR_BYTES, GROWTH_PER_HOUR_BYTES, HEARD_S, MIB, drift, explain, judge, slope

if TYPE_CHECKING:
    from pathlib import Path

HOUR_S = 3600.0
SUPERVISOR, WORKER = 100, 101


def failure(*, connection: int = 5, connected_at: float = 10.0, failed_at: float = 21.0, kind: str = "POST") -> Failure:
    return Failure(kind=kind, reason="cut", connection=connection, connected_at=connected_at, failed_at=failed_at)


def kill(*connections: int, kinds: tuple[str, ...] = ()) -> Fault:
    return Fault(at=20.0, name="worker killed", connections=list(connections), kinds=list(kinds), until=20.0)


def sample(at: float, rss: float = 40 * MIB, descriptors: int = 30, /, **gauges: float) -> Sample:
    known = {name: {"0": value} for name, value in gauges.items()}
    supervisor = Process(pid=SUPERVISOR, role="supervisor", rss=60 * MIB, descriptors=40)
    return Sample(
        at=at, processes=[supervisor, Process(pid=WORKER, role="worker", rss=int(rss), descriptors=descriptors)], gauges=known
    )


def result(
    *,
    grows_by: float = 0.0,
    p99_ms: tuple[float, float] = (5.0, 5.0),
    failures: tuple[Failure, ...] = (),
    failed: int | None = None,
    faults: tuple[Fault, ...] = (),
    at_rest: Sample | None = None,
) -> Result:
    chance = random.Random(3)
    size = 360
    tallies = [
        Tally(
            at=number * 10.0, done={"POST": 100}, p50_ms=1.0, p99_ms=p99_ms[number >= size // 2] * chance.uniform(0.9, 1.1),
            failures=[], failed=0,
        )
        for number in range(size)
    ]  # fmt: skip
    tallies[2].failures, tallies[2].failed = list(failures), len(failures) if failed is None else failed
    samples = [sample(number * 10.0, 40 * MIB + grows_by * number / size + chance.uniform(-MIB, MIB)) for number in range(size)]
    return Result(
        date="2026-01-01 00:00 UTC", plan=Plan(seconds=HOUR_S, workers=1, seed=1),
        machine={"cpu": "x", "cpus": 2, "kernel": "Linux", "load_average": 0.3}, versions={"python": "3"}, began_at=0.0,
        ended_at=HOUR_S, is_partial=False, tallies=tallies, faults=list(faults), samples=samples,
        before=sample(0.0, clusters=6.0), at_rest=at_rest or sample(HOUR_S, clusters=6.0),
        changes={"routes": 7}, visits=3, problems=[],
    )  # fmt: skip


class TestExplaining:
    def test_a_killed_workers_connection_may_fail(self) -> None:
        assert explain(failure(), [kill(4, 5)]) == kill(4, 5)

    @pytest.mark.parametrize(
        ("found", "fault"),
        [
            (failure(), kill(4)),
            (failure(connected_at=20.5), kill(5)),  # opened after the worker's death: the port was used again
            (failure(failed_at=19.9), kill(5)),
            (failure(failed_at=20.1 + HEARD_S), kill(5)),
            (failure(connection=0), kill(5)),
            (failure(kind="POST"), kill(5, kinds=("WebSocket messages",))),
        ],
    )  # fmt: skip
    def test_nothing_else_is_explained_by_that(self, found: Failure, fault: Fault) -> None:
        assert explain(found, [fault]) is None

    def test_one_unexplained_failure_fails_the_run(self) -> None:
        assert judge(result(failures=(failure(),), faults=(kill(5),))).problems == []
        judged = judge(result(failures=(failure(),)))
        assert judged.unexplained == [failure()]
        assert judged.problems == ["1 failures that nothing explains, the first: POST at 21.0 s: cut"]

    def test_failures_that_were_not_told_are_unexplained(self) -> None:
        judged = judge(result(failures=(failure(),), failed=9, faults=(kill(5),)))
        assert judged.problems == ["8 failures more than could be told"]

    def test_what_others_noticed_fails_the_run(self) -> None:
        found = result()
        found.problems.append("a worker was not replaced")
        assert judge(found).problems == ["a worker was not replaced"]

    def test_no_requests_are_no_success(self) -> None:
        found = result()
        found.tallies = []
        assert judge(found).problems == ["no request was answered"]


class TestGrowth:
    def test_flat_with_noise_passes(self) -> None:
        judged = judge(result())
        assert judged.problems == []
        assert all(abs(one.per_hour) < MIB for one in judged.growth)

    def test_a_leak_is_told_by_process(self) -> None:
        leak = 1.2 * (GROWTH_FLOOR_BYTES + GROWTH_PER_HOUR_BYTES)
        (problem,) = judge(result(grows_by=leak)).problems
        assert problem.startswith(f"memory of the worker {WORKER} grew by 1")

    def test_what_is_below_the_bound_passes(self) -> None:
        assert judge(result(grows_by=0.5 * (GROWTH_FLOOR_BYTES + GROWTH_PER_HOUR_BYTES))).problems == []

    def test_a_step_at_the_start_is_no_growth(self) -> None:
        found = result()
        for one in found.samples[:10]:
            one.processes[1].rss = MIB
        assert judge(found).problems == []

    def test_a_process_that_lived_shortly_is_not_judged(self) -> None:
        found = result()
        for number, one in enumerate(found.samples[:10]):
            one.processes.append(Process(pid=7, role="worker", rss=number * 10 * MIB, descriptors=9))
        judged = judge(found)
        assert judged.problems == []
        assert {one.pid for one in judged.growth} == {SUPERVISOR, WORKER}

    def test_the_slope_ignores_outliers(self) -> None:
        points = [(float(x), 3.0 * x) for x in range(50)]
        points[10] = (10.0, 1e9)
        assert slope(points) == pytest.approx(3.0)
        assert slope(points[:1]) == 0.0

    def test_descriptors_left_open_fail_and_pooled_connections_do_not(self) -> None:
        pooled = sample(HOUR_S, 40 * MIB, 80, upstream_connections=50.0, deadlines=50.0)
        assert judge(result(at_rest=pooled)).problems == []
        (problem,) = judge(result(at_rest=sample(HOUR_S, 40 * MIB, 80, upstream_connections=10.0))).problems
        assert problem == "descriptors besides connections grew from 70 to 110"

    @pytest.mark.parametrize("name", ["active_requests", "downstream_connections", "tunnels", "upstream_pending_requests"])
    def test_bookkeeping_at_rest_is_empty(self, name: str) -> None:
        (problem,) = judge(result(at_rest=sample(HOUR_S, **{name: 1.0}))).problems
        assert problem == f"worker 0 at rest has {name} 1"

    def test_clusters_and_deadlines_do_not_pile_up(self) -> None:
        problems = judge(result(at_rest=sample(HOUR_S, clusters=9.0, deadlines=5.0))).problems
        assert len(problems) == 2
        assert judge(result(at_rest=sample(HOUR_S, clusters=8.0, deadlines=4.0))).problems == []


class TestDrift:
    def test_a_slower_end_fails(self) -> None:
        (problem,) = judge(result(p99_ms=(5.0, 30.0))).problems
        assert problem.startswith("p99 drifted from ")

    def test_short_runs_are_judged_loosely(self) -> None:
        found = result(p99_ms=(5.0, 30.0))
        found.ended_at = 180.0
        assert drift(found).last_ms < drift(found).allowed_ms

    def test_a_faster_end_passes(self) -> None:
        assert judge(result(p99_ms=(30.0, 5.0))).problems == []


class TestConnections:
    def test_a_process_is_killed_and_its_connections_are_told(self) -> None:
        program = (
            "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint(s.getsockname()[1], flush=True)\n"
            "c, _ = s.accept()\nprint('in', flush=True)\nsys.stdin.read()"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            with socket.create_connection(("127.0.0.1", port)) as accepted:
                assert child.stdout.readline() == "in\n"
                with socket.create_connection(("127.0.0.1", port)):  # waits in the queue, so that it is nobody's yet
                    assert peer_ports(child.pid, range(port + 1, port + 2)) == []
                    found = kill_and_tell(child.pid, frozenset({port}))
                assert found == [accepted.getsockname()[1]]
            assert child.wait(10) == -9

    def test_of_a_process_that_is_gone_nothing_is_told(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as child:
            child.wait(10)
        with pytest.raises(FileNotFoundError):
            peer_ports(child.pid, range(1))


class TestDocument:
    def test_it_says_what_happened(self, tmp_path: Path) -> None:
        found = result(failures=(failure(),), faults=(kill(5),))
        paths = write(found, judge(found), tmp_path)
        text = paths[0].read_text()
        assert "This run passed: 60 minutes" in text
        assert "1 failures that a fault explains, 0 that none does" in text
        assert "| worker killed | 1 | 1 | SIGKILL |" in text
        assert {path.name for path in paths[1:]} == {"memory.svg", "descriptors.svg", "latency.svg", "failures.svg"}
        for path in paths[1:]:
            assert ET.parse(path).getroot().tag.endswith("svg")

    def test_a_failed_run_reads_as_failed(self, tmp_path: Path) -> None:
        found = result(failures=(failure(),))
        found.is_partial = True
        text = write(found, judge(found), tmp_path)[0].read_text()
        assert "This run **failed**: 60 minutes, interrupted before its end" in text
        assert "\n- 1 failures that nothing explains" in text

    def test_the_same_result_gives_the_same_bytes(self, tmp_path: Path) -> None:
        found = result()
        again = msgspec.json.decode(msgspec.json.encode(found), type=Result)
        first = [path.read_bytes() for path in write(found, judge(found), tmp_path)]
        assert first == [path.read_bytes() for path in write(again, judge(again), tmp_path)]


def test_big_bodies_have_no_two_blocks_alike() -> None:
    body = pattern(3 * 65536)
    assert len(body) == 3 * 65536
    assert len({body[start : start + 65536] for start in range(0, len(body), 65536)}) == 3
    assert pattern(100_000).startswith(pattern(10))
