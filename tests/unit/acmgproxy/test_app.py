# SPDX-License-Identifier: Apache-2.0
"""Facts about the gateway as a whole, its workers played by the test."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from acmgproxy import slot as slot_module
from acmgproxy.app import Gateway, RunOptions, run_gateway
from acmgproxy.app import gateway as module
from discovery.pipeline import Pipeline
from tests.unit.acmgproxy.control import MemoryLog, free_address, wait_for
from tests.unit.acmgproxy.fake_process import FakeProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {clusterIP: %s, ports: [{name: http, port: %s}]}
"""


class Running:
    """A gateway in the test's own loop."""

    def __init__(self, directory: Path, *, admin: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.directory = directory
        self.log = MemoryLog()
        log: Any = self.log
        options = RunOptions(directory=directory, workers=2, admin=admin)
        self.gateway = Gateway(options, log)
        self.task = asyncio.create_task(self.gateway.run())

    def write(self, name: str, address: tuple[str, int]) -> None:
        (self.directory / f"{name}.yaml").write_text(SERVICE % (name, *address))

    async def event(self, event: str) -> dict[str, Any]:
        await wait_for(lambda: event in self.log.events() or self.task.done(), event)
        return next(fields for _, found, fields in self.log.lines if found == event)

    async def get(self, path: str) -> Any:
        url = (await self.event("ready"))["admin"]
        async with aiohttp.ClientSession(url) as session, session.get(path) as answer:
            return await (answer.json() if answer.content_type == "application/json" else answer.text())

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(os.getpid(), number)

    async def end(self) -> None:
        if not self.task.done():
            await wait_for(lambda: self.gateway._stop.is_set() or self.log.lines)
            self.gateway._on_signal(signal.SIGTERM)
            self.gateway._on_signal(signal.SIGTERM)
            await self.task


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    fake = FakeProcesses()
    monkeypatch.setattr(slot_module, "WorkerProcess", fake)
    return fake


@pytest.fixture
async def running(processes: FakeProcesses, tmp_path: Path) -> AsyncIterator[Running]:
    assert processes.are_obedient
    (tmp_path / "a.yaml").write_text(SERVICE % ("a", *free_address()))
    running = Running(tmp_path)
    yield running
    await running.end()


async def test_it_serves_what_the_directory_holds_and_says_so(running: Running) -> None:
    ready = await running.event("ready")
    assert (ready["workers"], ready["listeners"]) == (2, 1)
    assert await running.get("/ready") == "ready\n"
    (listener,) = await running.get("/listeners")
    assert listener["name"] == f"a.default.svc.cluster.local:{listener['port']}"
    assert (listener["bound"], listener["workers"], listener["error"]) == (True, {"0": True, "1": True}, None)
    config = await running.get("/config")
    assert config["version"] == 1
    assert config["worker_versions"] == {"0": 1, "1": 1}
    assert config["listeners"].keys() == {listener["name"]}
    assert config["problems"] == []
    assert "acmg_ready 1.0\n" in await running.get("/metrics")
    assert "ready=True" in repr(running.gateway)


async def test_it_follows_changes_and_keeps_what_goes_bad(running: Running) -> None:
    await running.event("ready")
    running.write("b", free_address())
    await running.event("configuration changed")
    (running.directory / "a.yaml").write_text("kind: [")
    refused = await running.event("refused, the last good version stays in force")
    assert refused["file"] == "a.yaml"
    config = await running.get("/config")
    assert len(config["listeners"]) == 2
    assert config["problems"][0]["origin"] == "a.yaml"
    assert "acmg_config_problems 1.0\n" in await running.get("/metrics")
    running.write("a", free_address())
    await running.event("no longer refused")


async def test_findings_are_logged_once(running: Running) -> None:
    await running.event("ready")
    address = free_address()
    running.write("c", address)
    running.write("d", address)
    await wait_for(lambda: any("code" in fields for _, _, fields in running.log.lines))
    codes = [fields["code"] for _, _, fields in running.log.lines if "code" in fields]
    assert codes.count("ACMG007") == len(codes)
    running.write("e", free_address())
    await wait_for(lambda: running.gateway._pipeline.version >= 3)
    running.gateway._reports.diagnose()
    assert [fields["code"] for _, _, fields in running.log.lines if "code" in fields] == codes


async def test_sigterm_drains_and_exits_0(running: Running) -> None:
    await running.event("ready")
    running.signal()
    assert await running.task == 0
    assert running.log.events()[-1] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_it_at_once(running: Running, processes: FakeProcesses, number: int) -> None:
    await running.event("ready")
    for process in processes.started:
        process.is_obedient = False
    running.signal(number)
    await running.event("draining")
    assert (await running.gateway._view.metrics()) is not None
    running.signal(number)
    assert await running.task == 128 + number


async def test_a_signal_during_the_start_ends_it(tmp_path: Path, processes: FakeProcesses) -> None:
    processes.are_obedient = False
    running = Running(tmp_path)
    await wait_for(lambda: processes.started)
    running.signal()
    assert await running.task == 0
    assert "ready" not in running.log.events()


async def test_without_services_it_is_ready_and_says_that_it_serves_nothing(tmp_path: Path, processes: FakeProcesses) -> None:
    running = Running(tmp_path)
    await running.event("ready")
    assert "nothing to listen on" in running.log.events()
    assert len(processes.started) == 2
    await running.end()


async def test_a_busy_address_at_the_start_is_the_end(tmp_path: Path, processes: FakeProcesses) -> None:
    with socket.create_server((free_address()[0], 0)) as other:
        host, port = other.getsockname()
        (tmp_path / "a.yaml").write_text(SERVICE % ("a", host, port))
        running = Running(tmp_path)
        assert await running.task == 1
    reason = (await running.event("cannot start"))["reason"]
    assert reason == f"a.default.svc.cluster.local:{port} at {host}:{port}: already in use by another program"
    assert all(not process.is_alive for process in processes.started)


async def test_a_busy_admin_address_is_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = Running(tmp_path, admin=other.getsockname())
        assert await running.task == 1
    assert (await running.event("cannot start"))["reason"].startswith("admin server: 127.0.0.1:")


def test_no_directory_is_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = RunOptions(directory=tmp_path / "nowhere", workers=1, admin=("127.0.0.1", 0), shared_port=1)
    assert run_gateway(options) == 1
    assert "is not a directory" in capfd.readouterr().err


async def test_a_defect_while_watching_does_not_end_the_watch(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_WATCH_S", 0.0)
    await running.event("ready")
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "apply", None)
        running.write("b", free_address())
        await running.event("watching failed, and begins anew")
    running.write("c", free_address())
    await running.event("configuration changed")
