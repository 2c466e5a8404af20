# SPDX-License-Identifier: Apache-2.0
"""Watches: where they begin, what they show, how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kube.watching import END_OF_INITIAL_EVENTS
from tests.unit.kube.kit import SERVICES, service, until

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

ALL = "/api/v1/services"
LABELLED = {"metadata": {"name": "a", "labels": {"in": "yes"}}}


async def test_watch_goes_on_from_a_version(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    then = api.version
    api.put(service("b"))
    async with client.watch(ALL, resourceVersion=then) as watch:
        api.put(service("b", sessionAffinity="ClientIP"))
        gone = api.version + 1
        api.delete("Service", "default", "a")
        assert await watch.named(2) == [("ADDED", "b"), ("MODIFIED", "b")]
        last = await watch.next()
    assert (last["type"], last["object"]["metadata"]["resourceVersion"]) == ("DELETED", str(gone))


@pytest.mark.parametrize("version", ["", "0"])
async def test_watch_from_nowhere_begins_with_what_is_there(api: FakeApiServer, client: Client, version: str) -> None:
    api.put(service("a"))
    async with client.watch(ALL, resourceVersion=version) as watch:
        assert await watch.named(1) == [("ADDED", "a")]
        api.put(service("b"))
        assert await watch.named(1) == [("ADDED", "b")]


async def test_namespaces_are_watched_apart(api: FakeApiServer, client: Client) -> None:
    async with client.watch(SERVICES, resourceVersion=api.version) as watch:
        api.put(service("x") | {"metadata": {"name": "x", "namespace": "other"}})
        api.put(service("y"))
        assert await watch.named(1) == [("ADDED", "y")]


async def test_object_that_leaves_or_joins_a_selector_is_deleted_or_added(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    async with client.watch(ALL, resourceVersion=api.version, labelSelector="in=yes") as watch:
        api.put(service("a") | LABELLED)
        api.put(service("a", sessionAffinity="ClientIP") | LABELLED)
        api.put(service("a"))
        api.put(service("a", sessionAffinity="ClientIP"))
        api.put(service("b") | {"metadata": {"name": "b", "labels": {"in": "yes"}}})
        assert await watch.named(4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]


async def test_watch_list_ends_its_initial_events_with_a_bookmark(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with client.watch(ALL, **options) as watch:
        assert await watch.named(1) == [("ADDED", "a")]
        mark = await watch.next()
        api.put(service("b"))
        assert await watch.named(1) == [("ADDED", "b")]
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["kind"] == "Service"
    assert mark["object"]["metadata"]["annotations"] == {END_OF_INITIAL_EVENTS: "true"}
    assert int(mark["object"]["metadata"]["resourceVersion"]) == api.version - 1


async def test_watch_list_can_be_switched_off(api: FakeApiServer, client: Client) -> None:
    api.open_watches.watch_list = False
    query = {"watch": "1", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    status, body = await client.get(ALL, **query)
    assert status == 422
    assert "WatchList feature gate" in body["message"]


async def test_watch_from_a_forgotten_version_is_an_error_event(api: FakeApiServer, client: Client) -> None:
    then = api.version
    api.put(service("a"))
    api.faults.compact()
    async with client.watch(ALL, resourceVersion=then) as watch:
        event = await watch.next()
        assert await watch.rest() == b""
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_watch_from_a_forgotten_version_can_be_a_status(api: FakeApiServer, client: Client) -> None:
    then = api.version
    api.put(service("a"))
    api.faults.compact()
    api.faults.gone_as_status = True
    assert (await client.get(ALL, watch="1", resourceVersion=then))[0] == 410


async def test_watch_from_the_newest_version_survives_compaction(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    api.faults.compact()
    async with client.watch(ALL, resourceVersion=api.version) as watch:
        api.put(service("b"))
        assert await watch.named(1) == [("ADDED", "b")]


async def test_timeout_ends_a_watch_with_a_bookmark(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version, timeoutSeconds=1, allowWatchBookmarks="true") as watch:
        api.store.skip(5)
        mark = await watch.next()
        assert await watch.rest() == b""
    assert (mark["type"], mark["object"]["metadata"]["resourceVersion"]) == ("BOOKMARK", str(api.version))


async def test_bookmarks_come_only_where_they_are_wanted(api: FakeApiServer, client: Client) -> None:
    version = api.version
    async with (
        client.watch(ALL, resourceVersion=version, allowWatchBookmarks="true") as wants,
        client.watch(ALL, resourceVersion=version) as not_,
    ):
        api.faults.bookmark("Service")
        api.put(service("a"))
        assert (await wants.next())["type"] == "BOOKMARK"
        assert (await not_.next())["type"] == "ADDED"


async def test_bookmarks_come_by_themselves(api: FakeApiServer, client: Client) -> None:
    api.open_watches.bookmark_every_s = 0.01
    async with client.watch(ALL, resourceVersion=api.version, allowWatchBookmarks="true") as watch:
        assert [(await watch.next())["type"] for _ in range(2)] == ["BOOKMARK", "BOOKMARK"]


async def test_watch_is_forgotten_when_its_client_leaves(api: FakeApiServer, client: Client) -> None:
    async with client.watch(ALL, resourceVersion=api.version):
        assert len(api.watches("Service")) == 1
    await until(lambda: not api.watches())


async def test_version_that_is_no_number_is_400(client: Client) -> None:
    assert (await client.get(ALL, watch="1", resourceVersion="x"))[0] == 400


async def test_many_changes_reach_many_watches(api: FakeApiServer, client: Client) -> None:
    version = api.version
    async with client.watch(ALL, resourceVersion=version) as one, client.watch(SERVICES, resourceVersion=version) as other:
        names = [f"s{number}" for number in range(500)]
        for name in names:
            api.put(service(name))
        for watch in (one, other):
            assert await watch.named(500) == [("ADDED", name) for name in names]
