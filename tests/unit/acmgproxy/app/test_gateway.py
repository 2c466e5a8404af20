# SPDX-License-Identifier: Apache-2.0
"""Facts about a gateway in a cluster, with its workers and its source played by the test."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from acmgproxy import slot as slot_module
from acmgproxy.app import Gateway, KubernetesOptions, RunOptions
from acmgproxy.app import gateway as module
from acmgproxy.app.sources import OpenSource
from acmgproxy.messages import Drain
from acmgproxy.settings import ProxySettings
from discovery.objects import ObjectChanges, key_of
from routing.resources import decode
from tests.unit.acmgproxy.control import FakeWatch, MemoryLog, free_address, wait_for
from tests.unit.acmgproxy.fake_process import FakeProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from routing.resources import Resource


def service(port: int) -> Resource:
    return decode(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"name": "http", "port": port}]}}
    )


class FakeSource:
    """Gives what the test puts in."""

    name = "the test"

    def __init__(self) -> None:
        self.queue: asyncio.Queue[ObjectChanges | Exception] = asyncio.Queue()
        self.state = FakeWatch("Service", last_error="connection refused", errors=1, stale_s=100.0)
        self.is_closed = False

    def put(self, *resources: Resource) -> None:
        self.queue.put_nowait(ObjectChanges({key_of(one): one for one in resources}, frozenset(), ()))

    async def first(self) -> ObjectChanges:
        found = await self.queue.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def changes(self) -> AsyncGenerator[ObjectChanges]:
        while True:
            yield await self.first()

    async def close(self) -> None:
        self.is_closed = True


class Running:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.source = FakeSource()
        self.memory = MemoryLog()
        log: Any = self.memory
        self.health = free_address()
        options = RunOptions(
            kubernetes=KubernetesOptions(listen=(free_address()[0],)),
            workers=2,
            admin=("127.0.0.1", 0),
            health=self.health,
            shared_port=free_address()[1],
            settings=ProxySettings(drain_accept_s=7.5),
        )

        async def open_source(_: RunOptions) -> OpenSource:
            return OpenSource(self.source, lambda: (self.source.state,), self.source.close)

        monkeypatch.setattr(module, "open_source", open_source)
        self.gateway = Gateway(options, log)
        self.task = asyncio.create_task(self.gateway.run())

    async def event(self, event: str) -> dict[str, Any]:
        await wait_for(lambda: event in self.memory.events() or self.task.done(), event)
        return next(fields for _, found, fields in self.memory.lines if found == event)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.health[0]}:{self.health[1]}{path}") as answer:
            return answer.status, await answer.text()


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    fake = FakeProcesses()
    monkeypatch.setattr(slot_module, "WorkerProcess", fake)
    return fake


@pytest.fixture
async def running(processes: FakeProcesses, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    assert processes.are_obedient
    running = Running(monkeypatch)
    yield running
    if not running.task.done():
        running.gateway._on_signal(signal.SIGTERM)
        running.gateway._on_signal(signal.SIGTERM)
        await running.task


async def test_it_waits_for_everything_and_says_for_what(running: Running, processes: FakeProcesses) -> None:
    await wait_for(lambda: len(processes.started) == 2, "workers start meanwhile")
    assert await running.get("/healthz") == (200, "ok\n")
    assert await running.get("/ready") == (503, "not ready: waiting for kubernetes: Service (connection refused)\n")
    await running.event("watching kubernetes fails")
    running.source.put()
    await running.event("ready")
    assert await running.get("/ready") == (200, "ready\n")
    assert 'acmg_watch_errors_total{kind="Service"} 1.0' in (await running.get("/metrics"))[1]
    assert "kubernetes" in repr(running.gateway)


@pytest.mark.parametrize(("number", "accept_s"), [(signal.SIGTERM, 7.5), (signal.SIGINT, 0.0)])
async def test_a_cluster_is_given_time_to_notice_and_a_person_is_not_kept_waiting(
    running: Running, processes: FakeProcesses, number: int, accept_s: float
) -> None:
    running.source.put()
    await running.event("ready")
    running.gateway._on_signal(number)
    assert await running.task == 0
    assert all(process.orders[-1] == Drain(accept_s=accept_s) for process in processes.started)
    assert running.source.is_closed


async def test_who_never_listened_need_not_go_on_accepting(running: Running, processes: FakeProcesses) -> None:
    await wait_for(lambda: len(processes.started) == 2)
    running.gateway._on_signal(signal.SIGTERM)
    assert await running.task == 0
    assert running.source.is_closed


async def test_a_source_that_cannot_even_begin_is_a_defect_that_is_not_hidden(running: Running) -> None:
    running.source.queue.put_nowait(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await running.task
    assert running.source.is_closed


async def test_a_source_that_breaks_later_is_asked_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_WATCH_S", 0.0)
    running.source.put()
    await running.event("ready")
    running.source.queue.put_nowait(RuntimeError("a defect"))
    assert (await running.event("watching failed, and begins anew"))["source"] == "the test"
    running.source.put(service(80))
    await running.event("configuration changed")


async def test_endpoints_that_come_and_go_are_not_worth_a_line(running: Running) -> None:
    running.source.put(service(80))
    await running.event("ready")
    slice_ = decode({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a-1", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    })  # fmt: skip
    before = running.gateway._pipeline.version
    running.source.put(slice_)
    await wait_for(lambda: running.gateway._pipeline.version > before)
    assert "configuration changed" not in running.memory.events()
    running.source.put(service(81))
    await running.event("configuration changed")


async def test_a_busy_health_address_is_the_end(processes: FakeProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not processes.started
    running = Running(monkeypatch)
    with socket.create_server(running.health):
        assert await running.task == 1
    assert (await running.event("cannot start"))["reason"].startswith("health server: ")
