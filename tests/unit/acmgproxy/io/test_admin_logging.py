# SPDX-License-Identifier: Apache-2.0
"""Facts about /logging: what is shown, what is changed, who may not and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.io.admin import ALL_PAGES, HEALTH_PAGES
from acmgproxy.io.admin_logging import PAGE, LoggingChangeError, LoggingResource, LoggingState, read_change
from acmgproxy.sockets import open_admin_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from acmgproxy.log_levels import Level

STATE = LoggingState(access_log=AccessLogOptions(min_status=400), level="info")


class View:
    def __init__(self) -> None:
        self.state = STATE
        self.failures: dict[str, str] = {}

    def logging(self) -> LoggingState:
        return self.state

    async def set_logging(self, access_log: AccessLogOptions, level: Level) -> LoggingState:
        self.state = LoggingState(access_log=access_log, level=level, failures=self.failures)
        return self.state


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
async def client(view: View) -> AsyncIterator[aiohttp.ClientSession]:
    resource = LoggingResource(view)
    app = web.Application()
    app.router.add_get(PAGE, resource.handlers[PAGE])
    app.router.add_put(PAGE, resource.put)
    runner = web.AppRunner(app)
    await runner.setup()
    sock = open_admin_socket("127.0.0.1", 0)
    await web.SockSite(runner, sock).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as session:
        yield session
    await runner.cleanup()


def test_it_is_on_the_admin_server_alone() -> None:
    assert PAGE in ALL_PAGES
    assert PAGE not in HEALTH_PAGES


async def test_what_is_left_out_stays_as_it_is(client: aiohttp.ClientSession, view: View) -> None:
    async with client.put(PAGE, json={"access_log": {"sink": "-", "format": "json", "sampled": 0.5}}) as answer:
        assert answer.status == 200
    async with client.put(PAGE, json={"level": "debug"}) as answer:
        assert answer.status == 200
    async with client.get(PAGE) as answer:
        assert await answer.json() == {
            "access_log": {"sink": "-", "format": "json", "min_status": 400, "slower_than_s": 0.0, "sampled": 0.5},
            "level": "debug",
            "failures": {},
        }
    assert view.state.access_log.sink == "-"


async def test_workers_that_do_not_follow_make_it_a_failure(client: aiohttp.ClientSession, view: View) -> None:
    view.failures = {"1": "/x cannot be opened: Permission denied"}
    async with client.put(PAGE, json={"access_log": {"sink": "/x"}}) as answer:
        assert (answer.status, (await answer.json())["failures"]) == (500, view.failures)


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"levle": "debug"}, "", "object contains unknown field levle"),
        ({"access_log": {"path": "-"}}, "access_log", "object contains unknown field path"),
        ({"level": "loud"}, "level", "invalid enum value 'loud'; expected one of debug, info, warning, error"),
        ({"access_log": {"format": "xml"}}, "access_log.format", "invalid enum value 'xml'; expected one of text, json"),
        ({"access_log": {"min_status": "500"}}, "access_log.min_status", "expected int, got str"),
        ({"access_log": {"min_status": 1000}}, "access_log.min_status", "expected a status, or 0 for no such condition"),
        ({"access_log": {"slower_than_s": -1}}, "access_log.slower_than_s", "expected seconds, or 0 for no such condition"),
        (
            {"access_log": {"sampled": 1.5}},
            "access_log.sampled",
            "expected a fraction between 0 and 1, or -1 for none of its own",
        ),
        ({"access_log": {"sink": "log"}}, "access_log.sink", "expected off, -, or a path that begins with /, got 'log'"),
        ({"access_log": {"sink": "/a\0"}}, "access_log.sink", "a path has no NUL"),
        ([], "", "expected object, got array"),
    ],
)
async def test_a_refusal_names_field_and_reason(
    client: aiohttp.ClientSession, view: View, change: Any, field: str, reason: str
) -> None:
    async with client.put(PAGE, json=change) as answer:
        assert (answer.status, await answer.json()) == (400, {"error": {"field": field, "reason": reason}})
    assert view.state is STATE


def test_what_is_no_json() -> None:
    with pytest.raises(LoggingChangeError, match="expected JSON"):
        read_change(b"{", STATE)


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("[::1]:1", 200), ("127.0.0.1", 200), ("evil.test", 403)])
async def test_a_name_that_leads_here_by_mistake_changes_nothing(client: aiohttp.ClientSession, host: str, status: int) -> None:
    async with client.put(PAGE, json={"level": "error"}, headers={"Host": host}) as answer:
        assert answer.status == status


async def test_a_form_changes_nothing(client: aiohttp.ClientSession, view: View) -> None:
    async with client.put(PAGE, data=b'{"level": "error"}', headers={"Content-Type": "text/plain"}) as answer:
        assert answer.status == 415
    assert view.state is STATE
