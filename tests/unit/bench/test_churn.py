# SPDX-License-Identifier: Apache-2.0
"""Probes time a change until its first answer, and notice what should not happen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from bench.churn import Effects, Probe
from bench.cluster import Cluster, endpoint

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "127.20.0.1", "127.20.0.2"


class Pipe(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.is_aborted = True


def cluster(**changes: int) -> Cluster:
    sizes = {"services": 3, "endpoints": 2, "captured": 1, "probes": 1} | changes
    return Cluster(**sizes, steady=("127.20.0.9", 8080), probed=(FIRST, 8080))


def answer(host: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + host.encode() + b";"


def probe() -> tuple[Probe, Effects, Pipe]:
    effects, pipe = Effects(), Pipe()
    one = Probe(cluster().probes[0], (FIRST, SECOND), effects)
    one.connection_made(pipe)
    return one, effects, pipe


async def test_change_is_timed_until_its_first_answer() -> None:
    one, effects, pipe = probe()
    one.data_received(answer(FIRST))
    assert one.move() == SECOND
    one.data_received(answer(FIRST))
    assert one.is_waiting
    one.data_received(answer(SECOND)[:20])
    one.data_received(answer(SECOND)[20:])
    assert repr(one) == f"<Probe probe-0 at {SECOND}>"
    assert len(effects.seconds) == 1
    assert pipe.written[0].startswith(b"GET / HTTP/1.1\r\nHost: probe-0.default\r\n")


async def test_old_upstream_that_answers_again_fails_the_run() -> None:
    one, _, pipe = probe()
    one.move()
    one.data_received(answer(SECOND))
    one.data_received(answer(FIRST))
    assert "again" in str(one.failure)
    assert pipe.is_aborted


async def test_answer_other_than_200_fails_the_run() -> None:
    one, _, _ = probe()
    one.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    assert "503" in str(one.failure)


async def test_lost_connection_fails_the_run_unless_it_was_stopped() -> None:
    one, _, _ = probe()
    one.stop()
    one.connection_lost(None)
    assert one.failure is None
    one, _, _ = probe()
    one.connection_lost(None)
    assert "lost its connection" in str(one.failure)


def test_percentiles_are_of_all_changes() -> None:
    effects = Effects(seconds=[number / 1000 for number in range(1, 101)])
    assert [effects.percentile_ms(percent) for percent in (50, 99, 100)] == [51.0, 100.0, 100.0]
    assert Effects().percentile_ms(99) == 0.0


def test_cluster_has_what_was_asked_for(tmp_path: Path) -> None:
    made = cluster()
    count = made.write(tmp_path / "objects")
    objects = [orjson.loads(line) for line in (tmp_path / "objects").read_bytes().splitlines()]
    kinds = [one["kind"] for one in objects]
    assert count == len(objects)
    # steady, one probe and one of the three are captured: each has a shadow besides
    assert (kinds.count("Service"), kinds.count("EndpointSlice"), kinds.count("Pod")) == (5 + 3, 5, 1 + 1 + 3 * 2)
    addresses = [one["status"]["podIP"] for one in objects if one["kind"] == "Pod"]
    assert len(set(addresses)) == len(addresses)
    ports = [member.gateway_port for member in made.members if member.gateway_port]
    assert len(set(ports)) == 3


def test_endpoint_is_its_upstream_unless_it_is_moved() -> None:
    (member,) = cluster().probes
    assert endpoint(member, 0)["addresses"] == [FIRST]
    assert endpoint(member, 0, address=SECOND)["addresses"] == [SECOND]
