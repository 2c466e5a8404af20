# SPDX-License-Identifier: Apache-2.0
"""More gateway ports than there are descriptors: what is missing is said, and everything else goes on."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING

import pytest

from acmgproxy.sockets import TOO_MANY
from routing.capture import GATEWAY_PORTS
from tests.interop.client import RawClient
from tests.interop.cluster import Cluster
from tests.interop.gateway import wait_for
from tests.interop.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.gateway import Gateway, Service

LIMIT = 300
SERVICES = 150
"""With two workers each takes two descriptors of the supervisor: as many as the limit allows at all."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def limit_files(pids: list[int], limit: int) -> None:
    for pid in pids:
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


def ask(service: Service) -> str:
    with RawClient(service.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.answer().body.decode().strip()


def test_more_ports_than_descriptors(gateway: Gateway, cluster: Cluster, tmp_path: Path) -> None:
    def listeners() -> list[tuple[bool, str | None]]:
        return [(one["bound"], one["error"]) for one in json.loads(gateway.get("/listeners"))]

    with Upstream("v1") as upstream:
        first = cluster.add_service("first", [upstream])
        gateway.launch(*cluster.options(tmp_path), "--shared-port", "0", "--set", "drain_accept_s=0", workers=2)
        gateway.wait_ready()
        limit_files([gateway.pid, *gateway.workers()], LIMIT)
        for number in range(SERVICES):
            cluster.add_service(f"s{number}", [upstream], gateway_port=GATEWAY_PORTS[number + 1])
        wait_for(lambda: len(listeners()) == SERVICES + 1 and any(bound for bound, _ in listeners()[1:]), "all are known")
        wait_for(lambda: all(bound or error == TOO_MANY for bound, error in listeners()), "each is open or says why not")
        missing = [error for bound, error in listeners() if not bound]
        assert 0 < len(missing) < SERVICES
        assert gateway.wait_event("cannot listen")["reason"] == TOO_MANY
        assert gateway.get("/ready") == "ready\n"

        killed = gateway.workers()[0]
        gateway.kill(killed)
        wait_for(lambda: len(gateway.workers()) == 2 and killed not in gateway.workers(), "the worker is replaced")
        wait_for(lambda: sum(not bound for bound, _ in listeners()) == len(missing), "it listens as the one before")
        assert [ask(first) for _ in range(10)] == ["v1"] * 10

        limit_files([gateway.pid, *gateway.workers()], 20 * LIMIT)
        wait_for(lambda: all(bound for bound, _ in listeners()), "all are open once there is room")
