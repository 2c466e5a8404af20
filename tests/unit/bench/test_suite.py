# SPDX-License-Identifier: Apache-2.0
"""What the tables of the full comparison share: order, rounds, exact CPU time, and the shapes that wrk is asked for."""

from __future__ import annotations

import os
import time

import pytest

from bench import procfs
from bench.load import BODY, LoadError, Shape, burst
from bench.machine import Cpus, proxy_cpus
from bench.peers import Running
from bench.suite.churn import _Changes
from bench.suite.ground import Figures, cpu_per_request, pinned
from bench.suite.table import Case, interleave
from tests.interop.upstream import Exchange, Upstream


def test_peers_take_turns_and_every_other_round_goes_backwards() -> None:
    seen: list[str] = []
    peers = {name: Running(address=(name, 1)) for name in ("a", "b")}

    def case(name: str) -> Case:
        def measure(running: Running) -> Figures:
            seen.append(name + running.address[0])
            return {"value": float(len(seen))}

        return Case(labels={"case": name}, measure=measure)

    rows = interleave(peers, [case("1"), case("2")], rounds=3, step=lambda _: None)
    assert " ".join(seen) == "1a 1b 2a 2b 2b 2a 1b 1a 1a 1b 2a 2b"
    assert rows[0].as_json() == {"peer": "a", "case": "1", "values": {"value": [1.0, 8.0, 9.0]}}


def test_a_failure_names_peer_and_case() -> None:
    def fail(_: Running) -> Figures:
        raise LoadError("no answer")

    with pytest.raises(LoadError, match="a, rate 5: no answer"):
        interleave({"a": Running(address=("a", 1))}, [Case(labels={"rate": 5}, measure=fail)], rounds=1, step=lambda _: None)


def test_cpu_time_is_told_to_the_microsecond() -> None:
    before, own = procfs.busy_us([os.getpid()]), time.process_time_ns()
    while time.process_time_ns() - own < 3_000_000:
        pass
    assert 3_000 <= procfs.busy_us([os.getpid()]) - before < 1_000_000
    with pytest.raises(ProcessLookupError):
        procfs.busy_us([2**22 + 1])  # above the highest process id


def test_a_peer_without_processes_costs_nothing() -> None:
    assert cpu_per_request(Running(address=("a", 1)), lambda: 10) == 0


def test_memory_of_a_process_is_told_three_ways() -> None:
    pid = os.getpid()
    now = procfs.forget_peak(pid)
    assert 0 < procfs.pss_bytes(pid) <= 1.1 * procfs.peak_bytes(pid)
    assert procfs.peak_bytes(pid) >= 0.9 * now
    assert procfs.resident_bytes(pid) > 1_000_000


def test_workers_get_the_cpus_that_the_load_does_not_need_first() -> None:
    four = Cpus(load=frozenset({0}), proxy=frozenset({2}), usable=frozenset({0, 1, 2, 3}))
    assert proxy_cpus(four, 1) == {2}
    assert proxy_cpus(four, 2) == {1, 2}
    two = Cpus(load=frozenset({0}), proxy=frozenset({1}), usable=frozenset({0, 1}))
    assert proxy_cpus(two, 2) == {0, 1}
    assert proxy_cpus(Cpus(load=frozenset(), proxy=frozenset()), 2) == frozenset()


def test_cpus_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def _answer(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(200, BODY)


def test_hosts_are_asked_for_in_turn_and_heads_differ() -> None:
    with Upstream() as upstream:
        upstream.on("/hello", _answer)
        burst(upstream.address, Shape(connections=1, headers=10, distinct=True, hosts=("a.example", "b.example")), seconds=0.2)
        received = upstream.received
    hosts = [request.values("host") for request in received]
    assert hosts[:4] in ([["a.example"], ["b.example"]] * 2, [["b.example"], ["a.example"]] * 2)
    identifiers = [request.values("x-request-id")[0] for request in received]
    assert len(set(identifiers)) == len(identifiers)


def test_uploads_are_sent_whole() -> None:
    sizes: list[int] = []

    def answer(exchange: Exchange) -> None:
        sizes.append(len(exchange.body()))
        exchange.answer(200, BODY)

    with Upstream() as upstream:
        upstream.on("/upload", answer)
        sample = burst(upstream.address, Shape(connections=2, upload_bytes=65536), seconds=0.2)
        assert {request.method for request in upstream.received} == {"POST"}
    assert sample.requests
    assert set(sizes) == {65536}


def test_an_answer_that_is_too_short_fails_the_run() -> None:
    with Upstream() as upstream:
        upstream.on("/bytes/1024", _answer)
        with pytest.raises(LoadError, match="bytes of answers"):
            burst(upstream.address, Shape(connections=1, answer_bytes=1024), seconds=0.2)


def test_every_change_of_the_churn_is_a_change() -> None:
    changes = _Changes(("127.0.0.9", 80))
    changes.of_service(Running(address=("127.0.0.1", 80)), (("127.0.0.2", 80), ("127.0.0.3", 80)))
    assert len(changes.texts) == 50
    assert all(first != second for first, second in changes.texts.values())
    assert "weight: 85" in changes.texts["helloworld.yaml"][1]
