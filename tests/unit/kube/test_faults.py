# SPDX-License-Identifier: Apache-2.0
"""Faults do what they say, to whom they say, as often as they say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.unit.kube.kit import SERVICES, service, until

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

ALL = "/api/v1/services"


@pytest.mark.parametrize("status", [401, 403, 409, 410, 429, 500, 503])
async def test_next_requests_are_answered_a_status(api: FakeApiServer, client: Client, status: int) -> None:
    api.faults.answer(status, count=2)
    for _ in range(2):
        answered, body = await client.get(ALL)
        assert (answered, body["code"], body["kind"]) == (status, status, "Status")
    assert (await client.get(ALL))[0] == 200


async def test_fault_takes_only_what_it_matches(api: FakeApiServer, client: Client) -> None:
    fault = api.faults.answer(500, count=None, match=lambda request: request.method == "POST")
    assert (await client.get(ALL))[0] == 200
    for _ in range(3):
        assert (await client.post(SERVICES, service()))[0] == 500
    api.faults.cancel(fault)
    assert (await client.post(SERVICES, service()))[0] == 201


async def test_retry_after_is_a_header(api: FakeApiServer) -> None:
    api.faults.answer(429, retry_after_s=3)
    async with aiohttp.ClientSession() as session, session.get(api.url + ALL) as answer:
        assert answer.headers["Retry-After"] == "3"


async def test_reset_closes_without_an_answer(api: FakeApiServer, client: Client) -> None:
    # a client may try once more by itself when a connection dies under a request that changes nothing
    api.faults.reset(count=2)
    with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
        await client.get(ALL)


async def test_hang_never_answers(api: FakeApiServer, client: Client) -> None:
    api.faults.hang()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.get(ALL), 0.05)
    assert api.requests[0].status == 0
    assert (await client.get(ALL))[0] == 200


async def test_half_an_answer_breaks_off(api: FakeApiServer, client: Client) -> None:
    api.put(service())
    api.faults.half()
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.get(ALL)


async def test_half_a_line_breaks_off(api: FakeApiServer, client: Client) -> None:
    api.faults.half()
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.put(service())
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.rest()


async def test_half_a_line_of_a_watch_that_is_open(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        assert api.faults.halve_next_line("Service") == 1
        api.put(service())
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.rest()


async def test_watches_are_cut_in_order_or_reset(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.put(service())
        assert api.faults.cut_watches("Service") == 1
        assert (await watch.next())["type"] == "ADDED"
        assert await watch.rest() == b""
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.faults.cut_watches(abort=True)
        with pytest.raises(aiohttp.ClientPayloadError):
            await watch.rest()


async def test_only_watches_of_the_kind_are_cut(api: FakeApiServer, client: Client) -> None:
    async with client.watch("/api/v1/pods", resourceVersion=api.version):
        assert api.faults.cut_watches("Service") == 0
        assert len(api.watches()) == 1


async def test_frozen_watch_is_silent_until_it_thaws(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        assert api.faults.freeze_watches() == 1
        api.put(service())
        line = asyncio.ensure_future(watch.next())
        await client.get(ALL)
        assert not line.done()
        api.faults.thaw_watches()
        assert (await line)["type"] == "ADDED"


async def test_watches_can_end_with_410_in_the_stream(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.faults.expire_watches()
        assert (await watch.next())["object"]["code"] == 410
        assert await watch.rest() == b""


async def test_watches_can_end_at_once(api: FakeApiServer, client: Client) -> None:
    api.faults.end_watches_at_once = True
    for _ in range(3):
        async with client.watch(ALL, resourceVersion=api.version) as watch:
            assert await watch.rest() == b""
    api.faults.clear()
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.put(service())
        assert (await watch.next())["type"] == "ADDED"


async def test_one_watch_can_end_at_once(api: FakeApiServer, client: Client) -> None:
    api.faults.empty(match=lambda request: request.is_watch)
    await client.get(ALL)
    async with client.watch(ALL) as watch:
        assert await watch.rest() == b""


async def test_events_can_be_repeated_and_lines_made_up(api: FakeApiServer, client: Client) -> None:
    api.put(service())
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.faults.replay("Service", "default", "web")
        api.faults.send_line(b'{"type":"ODD","object":{"metadata":{}}}\n', "Service")
        assert await watch.named(2) == [("ADDED", "web"), ("ODD", "")]


async def test_restore_takes_versions_and_objects_back(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    backup = api.faults.backup()
    api.put(service("b"))
    later = api.version
    api.faults.restore(backup)
    assert api.version < later
    assert await client.names(ALL) == ["a"]
    assert (await client.get(ALL, resourceVersion=later))[0] == 504


async def test_server_comes_back_on_the_same_port_with_its_objects(api: FakeApiServer, client: Client) -> None:
    api.put(service())
    url = api.url
    await api.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get(ALL)
    await api.start()
    assert api.url == url
    assert await client.names(ALL) == ["web"]


async def test_stop_does_not_wait_for_watches_that_are_frozen(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version):
        api.faults.freeze_watches()
        api.faults.hang()
        hanging = asyncio.ensure_future(client.get(ALL))
        await until(lambda: len(api.requests) == 2)
        await asyncio.wait_for(api.stop(), 5)
        with pytest.raises(aiohttp.ClientError):
            await hanging
