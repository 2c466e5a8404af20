# SPDX-License-Identifier: Apache-2.0
"""Facts about /listeners: what it says, and that it says it cheaply."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec

from acmgproxy.app import listing as module
from acmgproxy.app.listing import Listing
from acmgproxy.sockets import Bind
from acmgproxy.supervisor import ListenerStatus
from routing.specs import ClusterRef, ClusterSpec, EndpointSpec, ListenerSpec, Specs, VirtualHostSpec

if TYPE_CHECKING:
    import pytest

HOST = "hello.default.svc.cluster.local"
NAME = f"{HOST}:5000"
CLUSTER = f"outbound|5000||{HOST}"
BIND = Bind(NAME, "10.1.2.3", 20000)
SHARED = Bind("shared", "10.1.2.3", 15080)


def endpoints(count: int) -> dict[str, tuple[EndpointSpec, ...]]:
    return {CLUSTER: tuple(EndpointSpec(address=f"10.0.0.{number}", port=80) for number in range(count))}


def specs(count: int) -> Specs:
    return Specs(
        listeners={
            NAME: ListenerSpec(name=NAME, port=5000, binds=((BIND.address, BIND.port),), virtual_host=NAME),
            "shared": ListenerSpec(name="shared", port=0, binds=((SHARED.address, SHARED.port),)),
        },
        virtual_hosts={NAME: VirtualHostSpec(name=NAME, port=5000, domains=(HOST,), default=ClusterRef(cluster=CLUSTER))},
        clusters={CLUSTER: ClusterSpec(name=CLUSTER, service=HOST, service_name="hello", service_namespace="default")},
        endpoints=endpoints(count),
    )


class Scene:
    """Stands for the supervisor."""

    def __init__(self) -> None:
        self.revision = 1
        self.specs = specs(3)
        self.seen = [self.specs]
        self.status = [ListenerStatus(BIND, (True, True), ""), ListenerStatus(SHARED, (True, False), "busy")]
        supervisor: Any = self
        self.listing = Listing(supervisor)

    def applied(self) -> list[Specs]:
        return self.seen

    def listeners(self) -> list[ListenerStatus]:
        return self.status

    async def entries(self) -> list[dict[str, Any]]:
        self.revision += 1
        found: list[dict[str, Any]] = json.loads((await self.listing.page()).body)
        return found


async def test_an_address_is_described_with_its_service() -> None:
    first, second = await Scene().entries()
    assert first == {
        "name": NAME,
        "address": "10.1.2.3",
        "port": 20000,
        "bound": True,
        "workers": {"0": True, "1": True},
        "error": None,
        "host": HOST,
        "service": "default/hello",
        "service_port": 5000,
        "endpoints": 3,
    }
    assert (second["bound"], second["workers"], second["error"]) == (False, {"0": True, "1": False}, "busy")
    assert (second["host"], second["service"], second["service_port"], second["endpoints"]) == (None, None, None, 0)


async def test_only_endpoints_that_every_worker_knows_count() -> None:
    scene = Scene()
    scene.seen = [specs(3), specs(2)]
    assert (await scene.entries())[0]["endpoints"] == 2
    scene.seen = [specs(3), Specs()]
    assert (await scene.entries())[0]["endpoints"] == 0


async def test_without_a_default_route_the_ports_own_cluster_counts() -> None:
    scene = Scene()
    scene.specs = msgspec.structs.replace(scene.specs, virtual_hosts={})
    assert (await scene.entries())[0]["endpoints"] == 3
    scene.specs = msgspec.structs.replace(scene.specs, clusters={})
    assert (await scene.entries())[0]["service"] is None
    scene.specs = Specs()
    assert (await scene.entries())[0]["host"] is None


async def test_it_is_made_anew_only_when_something_happened() -> None:
    scene = Scene()
    page = await scene.listing.page()
    scene.status = []
    assert await scene.listing.page() is page
    scene.revision += 1
    empty = await scene.listing.page()
    assert (json.loads(empty.body), empty.etag != page.etag) == ([], True)


async def test_what_says_the_same_has_the_same_tag_and_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    page = await scene.listing.page()
    written: list[object] = []
    write = module._entry

    def noted(facts: Any) -> dict[str, object]:
        written.append(facts)
        return write(facts)

    monkeypatch.setattr(module, "_entry", noted)
    scene.revision += 1
    assert await scene.listing.page() is page
    assert not written
    scene.seen = [specs(4)]
    scene.revision += 1
    assert (await scene.listing.page()).etag != page.etag
    assert len(written) == 1
    scene.seen = [specs(3)]
    scene.revision += 1
    assert await scene.listing.page() == page
    assert "entries=2" in repr(scene.listing)


async def test_many_entries_leave_the_loop_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    scene = Scene()
    first, second = await asyncio.gather(scene.listing.page(), scene.listing.page())
    assert first is second
    assert len(json.loads(first.body)) == 2
