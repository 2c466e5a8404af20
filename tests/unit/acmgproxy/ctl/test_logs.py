# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl log`: what it asks gateways, and what it says when one does not follow."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.ctl import logs as module
from acmgproxy.ctl.cluster import Where
from acmgproxy.ctl.logs import LogOptions, run_log
from acmgproxy.io.admin_logging import PAGE, LoggingResource, LoggingState
from acmgproxy.sockets import open_admin_socket
from discovery.kube import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acmgproxy.log_levels import Level


class Gateway:
    """A gateway's /logging on a thread of its own, since the command runs a loop itself."""

    def __init__(self) -> None:
        self.state = LoggingState(access_log=AccessLogOptions(), level="info")
        self.failures: dict[str, str] = {}
        self._sock = open_admin_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._sock.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._up.wait(10)

    def logging(self) -> LoggingState:
        return self.state

    async def set_logging(self, access_log: AccessLogOptions, level: Level) -> LoggingState:
        self.state = LoggingState(access_log=access_log, level=level, failures=self.failures)
        return self.state

    async def _serve(self) -> None:
        resource, app = LoggingResource(self), web.Application()
        app.router.add_get(PAGE, resource.handlers[PAGE])
        app.router.add_put(PAGE, resource.put)
        app.router.add_get("/else/logging", self._something_else)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, self._sock).start()
        self._stop = asyncio.Event()
        self._up.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _something_else(self, _: web.Request) -> web.Response:
        return web.Response(text="hello")

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.close()


def log(*gateways: str, **options: Any) -> int:
    return run_log(LogOptions(where=Where(), gateways=gateways, **options))


def test_it_only_shows_unless_it_is_told_more(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    before = gateway.state
    assert log(gateway.url) == 0
    assert gateway.state is before
    assert capsys.readouterr().out.splitlines()[1].split() == [gateway.url, "off", "text", "-", "-", "1", "info"]


def test_what_is_named_is_changed(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert log(gateway.url, access_log="-", format="json", min_status=500, slower_than_s=1.5, sample=0.25, level="debug") == 0
    options = AccessLogOptions(sink="-", format="json", min_status=500, slower_than_s=1.5, sampled=0.25)
    assert gateway.state == LoggingState(access_log=options, level="debug")
    assert capsys.readouterr().out.splitlines()[1].endswith("standard output  json    500          1.5s         0.25     debug")
    assert log(gateway.url, access_log="off", as_json=True) == 0
    assert gateway.state.access_log.min_status == 500
    assert '"sink": "off"' in capsys.readouterr().out


def test_workers_that_do_not_follow_are_named(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.failures = {"1": "/x cannot be opened: Is a directory"}
    assert log(gateway.url, access_log="/x") == 1
    assert "worker 1 logs requests as before: /x cannot be opened: Is a directory" in capsys.readouterr().err


def test_a_refusal_is_passed_on_and_the_others_are_shown(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert log(gateway.url, sample=7.0) == 1
    assert "access_log.sampled: expected a fraction between 0 and 1" in capsys.readouterr().err
    assert log(gateway.url, f"{gateway.url}/else", "http://127.0.0.1:1", "nonsense") == 1
    captured = capsys.readouterr()
    assert gateway.url in captured.out
    assert "is no admin server of this release" in captured.err
    assert captured.err.count("Check the URL") == 2


class Pods:
    """A cluster's gateways, by name, and what their admin servers answer."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []

    async def request(self, method: str, path: str, *, body: Any = None, timeout_s: float) -> Any:
        assert timeout_s > 2
        self.asked.append((method, path, body))
        answer = self.answers[path.split("/pods/")[1].split("%3A", maxsplit=1)[0].split(":", maxsplit=1)[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Pods:
    state = {"access_log": {"sink": "-"}, "level": "warning"}
    pods = Pods({"gw-a": state, "gw-b": ApiError(503, "ServiceUnavailable", "connection refused")})

    class Connected:
        async def __aenter__(self) -> Pods:
            return pods

        async def __aexit__(self, *_: object) -> None:
            return

    async def list_all(_client: Pods, path: str, *, labelSelector: str) -> list[dict[str, Any]]:
        assert path.endswith("/namespaces/acmg-system/pods")
        assert "component=gateway" in labelSelector
        return [{"metadata": {"name": name}} for name in pods.answers]

    monkeypatch.setattr(module, "connected", lambda _where: Connected())
    monkeypatch.setattr(module, "list_all", list_all)
    return pods


def test_gateways_of_a_cluster_are_asked_through_its_api_server(pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    assert log(level="debug") == 1
    assert [(method, body) for method, _, body in pods.asked] == [("PUT", {"level": "debug"})] * 2
    assert pods.asked[0][1].endswith("/proxy/logging")
    captured = capsys.readouterr()
    assert "gw-a     standard output" in captured.out
    assert "kubectl -n acmg-system port-forward gw-b 15000" in captured.err


def test_a_cluster_without_gateways(pods: Pods, capsys: pytest.CaptureFixture[str]) -> None:
    pods.answers.clear()
    assert log() == 2
    assert "there is no gateway in namespace acmg-system" in capsys.readouterr().err


def test_showing_them_changes_nothing(pods: Pods) -> None:
    del pods.answers["gw-b"]
    assert log() == 0
    assert pods.asked[0][0] == "GET"
