# SPDX-License-Identifier: Apache-2.0
"""The garbage collector and the deletion of Namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kube import FakeApiServer
from tests.unit.kube.kit import Client, pod, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(gc=True) as server:
        yield server


def config_map(name: str, *owners: dict[str, Any], **meta: Any) -> dict[str, Any]:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": one["metadata"]["name"], "uid": one["metadata"]["uid"]}
        for one in owners
    ]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": references, **meta}}


async def names(api: FakeApiServer) -> list[str]:
    await until(lambda: all(one.idle for one in api.controllers))
    return [one["metadata"]["name"] for one in api.objects("ConfigMap")]


async def test_dependents_go_with_their_owner(api: FakeApiServer, client: Client) -> None:
    owner = api.put(config_map("owner"))
    child = api.put(config_map("child", owner))
    api.put(config_map("grandchild", child))
    api.put(config_map("stranger"))
    await client.ask("DELETE", f"{MAPS}/owner")
    await until(lambda: len(api.objects("ConfigMap")) == 1)
    assert await names(api) == ["stranger"]


async def test_dependent_with_another_owner_only_loses_the_reference(api: FakeApiServer) -> None:
    first, second = api.put(config_map("first")), api.put(config_map("second"))
    api.put(config_map("child", first, second))
    api.delete("ConfigMap", "default", "first")
    assert await names(api) == ["child", "second"]
    child = api.get("ConfigMap", "default", "child")
    assert child is not None
    assert [one["name"] for one in child["metadata"]["ownerReferences"]] == ["second"]


async def test_object_whose_owner_never_was_goes(api: FakeApiServer) -> None:
    ghost = {"metadata": {"name": "ghost", "uid": "0"}}
    api.put(config_map("child", ghost))
    assert await names(api) == []


async def test_orphans_stay_without_the_reference(api: FakeApiServer, client: Client) -> None:
    owner = api.put(config_map("owner"))
    api.put(config_map("child", owner))
    await client.ask("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Orphan"})
    assert await names(api) == ["child"]
    child = api.get("ConfigMap", "default", "child")
    assert child is not None
    assert "ownerReferences" not in child["metadata"]


async def test_foreground_deletion_waits_for_dependents(api: FakeApiServer, client: Client) -> None:
    owner = api.put(config_map("owner"))
    api.put(config_map("child", owner, finalizers=["test/hold"]))
    await client.ask("DELETE", f"{MAPS}/owner", {"propagationPolicy": "Foreground"})
    assert await names(api) == ["child", "owner"]
    await client.merge(f"{MAPS}/child", {"metadata": {"finalizers": None}})
    assert await names(api) == []


async def test_namespace_terminates_until_it_is_empty(api: FakeApiServer, client: Client) -> None:
    held = config_map("held", finalizers=["test/hold"])
    held["metadata"]["namespace"] = "shop"
    api.put(held)
    api.put(config_map("free") | {"metadata": {"name": "free", "namespace": "shop"}})
    status, answer = await client.ask("DELETE", "/api/v1/namespaces/shop")
    assert (status, answer["status"]["phase"]) == (200, "Terminating")
    assert await names(api) == ["held"]
    assert (await client.post("/api/v1/namespaces/shop/configmaps", {"metadata": {"name": "new"}}))[0] == 403
    await client.merge("/api/v1/namespaces/shop/configmaps/held", {"metadata": {"finalizers": None}})
    await until(lambda: api.get("Namespace", "", "shop") is None)


async def test_pods_in_a_namespace_get_their_grace_period(api: FakeApiServer, client: Client) -> None:
    one = pod("p", "10.0.0.1")
    one["metadata"]["namespace"] = "shop"
    api.put(one)
    await client.ask("DELETE", "/api/v1/namespaces/shop")
    await until(lambda: (api.get("Pod", "shop", "p") or {})["metadata"].get("deletionTimestamp"))
    assert api.get("Namespace", "", "shop") is not None
    await client.ask("DELETE", "/api/v1/namespaces/shop/pods/p", {"gracePeriodSeconds": 0})
    await until(lambda: api.get("Namespace", "", "shop") is None)
