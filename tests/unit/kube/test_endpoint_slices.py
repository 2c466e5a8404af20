# SPDX-License-Identifier: Apache-2.0
"""The EndpointSlice controller: what it keeps, empties, refills and leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kube import FakeApiServer
from tests.kube.controllers.endpoint_slices import MANAGED_BY
from tests.unit.kube.kit import pod, service, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(endpointslices=True, gc=True) as server:
        yield server


async def settled(api: FakeApiServer) -> list[dict[str, Any]]:
    """Wait until no controller has anything left to do and return the slices."""
    await until(lambda: all(one.idle for one in api.controllers))
    return api.objects("EndpointSlice")


def addresses(slices: list[dict[str, Any]]) -> list[str]:
    return sorted(endpoint["addresses"][0] for one in slices for endpoint in one["endpoints"] or ())


async def test_slice_says_whose_it_is(api: FakeApiServer) -> None:
    stored = api.put(service() | {"metadata": {"name": "web", "labels": {"team": "a"}}})
    api.put(pod("p", "10.0.0.1"))
    (one,) = await settled(api)
    assert one["metadata"]["name"].startswith("web-")
    assert len(one["metadata"]["name"]) == len("web-xxxxx")
    assert one["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
    }
    owner = one["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Service", stored["metadata"]["uid"], True)
    assert one["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]


async def test_endpoint_says_what_its_pod_is(api: FakeApiServer) -> None:
    api.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "z1"}}})
    api.put(service())
    stored = api.put(pod("p", "10.0.0.1", hostname="h", subdomain="web"))
    (one,) = await settled(api)
    assert one["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p", "uid": stored["metadata"]["uid"]},
            "nodeName": "node-1",
            "zone": "z1",
            "hostname": "h",
        }
    ]


async def conditions(api: FakeApiServer) -> dict[str, bool]:
    (one,) = await settled(api)
    found: dict[str, bool] = one["endpoints"][0]["conditions"]
    return found


async def test_conditions_follow_the_pod(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("p", "10.0.0.1", ready=False))
    assert await conditions(api) == {"ready": False, "serving": False, "terminating": False}
    ending = pod("p", "10.0.0.1")
    api.put(ending)
    assert await conditions(api) == {"ready": True, "serving": True, "terminating": False}
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    api.delete("Pod", "default", "p")
    api.put(ending)
    assert await conditions(api) == {"ready": False, "serving": True, "terminating": True}
    api.put(service(publishNotReadyAddresses=True))
    assert await conditions(api) == {"ready": True, "serving": True, "terminating": True}


async def test_pods_without_node_or_address_or_at_their_end_are_left_out(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("no-node", "10.0.0.1", nodeName=""))
    api.put(pod("no-address"))
    api.put(pod("other", "10.0.0.2", labels={"app": "other"}))
    over = pod("over", "10.0.0.3")
    over["status"]["phase"] = "Succeeded"
    api.put(over)
    api.put(pod("elsewhere", "10.0.0.4") | {"metadata": {"name": "elsewhere", "namespace": "other", "labels": {"app": "web"}}})
    api.put(pod("p", "10.0.0.9"))
    assert addresses(await settled(api)) == ["10.0.0.9"]


async def test_pod_on_a_node_that_is_gone_is_left_out(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("p", "10.0.0.1"))
    assert addresses(await settled(api)) == ["10.0.0.1"]
    api.delete("Node", "", "node-1")
    assert addresses(await settled(api)) == []


async def test_selector_that_matches_nothing_empties_the_slice_in_place_and_refills_it(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("p", "10.0.0.1"))
    (full,) = await settled(api)
    api.put(service(selector={"app": "web", "captured": "true"}))
    (empty,) = await settled(api)
    assert (empty["metadata"]["uid"], empty["endpoints"], empty["ports"]) == (full["metadata"]["uid"], None, None)
    api.put(service())
    (again,) = await settled(api)
    assert (again["metadata"]["uid"], addresses([again]), again["ports"]) == (
        full["metadata"]["uid"],
        ["10.0.0.1"],
        full["ports"],
    )


async def test_service_without_pods_has_an_empty_slice(api: FakeApiServer) -> None:
    api.put(service())
    (one,) = await settled(api)
    assert one["endpoints"] is None


async def test_removed_selector_freezes_the_slices(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("p", "10.0.0.1"))
    await settled(api)
    api.put(service(selector=None))
    api.delete("Pod", "default", "p")
    assert addresses(await settled(api)) == ["10.0.0.1"]


async def test_external_name_has_no_slice(api: FakeApiServer) -> None:
    api.put(service(type="ExternalName", externalName="example.com"))
    assert await settled(api) == []


async def test_headless_service_is_labelled(api: FakeApiServer) -> None:
    api.put(service(clusterIP="None"))
    (one,) = await settled(api)
    assert one["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


async def test_named_target_ports_are_resolved_for_each_pod(api: FakeApiServer) -> None:
    api.put(service(ports=[{"name": "http", "port": 80, "targetPort": "web"}]))
    for name, number in (("a", 8080), ("b", 9090)):
        containers = [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": number}]}]
        api.put(pod(name, f"10.0.0.{number % 100}", containers=containers))
    slices = await settled(api)
    found = {one["ports"][0]["port"]: addresses([one]) for one in slices}
    assert found == {8080: ["10.0.0.80"], 9090: ["10.0.0.90"]}


async def test_port_that_a_pod_does_not_name_is_left_out(api: FakeApiServer) -> None:
    api.put(service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81, "targetPort": "none"}]))
    api.put(pod("p", "10.0.0.1"))
    (one,) = await settled(api)
    assert [port["name"] for port in one["ports"]] == ["a"]


async def test_each_family_has_its_slices(api: FakeApiServer) -> None:
    api.put(service(ipFamilyPolicy="PreferDualStack"))
    both = pod("p", "10.0.0.1")
    both["status"]["podIPs"].append({"ip": "fd00::1"})
    api.put(both)
    found = {one["addressType"]: addresses([one]) for one in await settled(api)}
    assert found == {"IPv4": ["10.0.0.1"], "IPv6": ["fd00::1"]}


async def test_slices_hold_a_hundred_endpoints_at_most(api: FakeApiServer) -> None:
    api.put(service())
    for number in range(250):
        api.put(pod(f"p{number}", f"10.0.{number // 100}.{number % 100 + 1}"))
    slices = await settled(api)
    assert sorted(len(one["endpoints"]) for one in slices) == [50, 100, 100]
    before = {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in slices}
    api.delete("Pod", "default", "p7")
    after = {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in await settled(api)}
    assert len([name for name in before if before[name] != after[name]]) == 1


async def test_slice_that_is_tampered_with_or_deleted_is_made_again(api: FakeApiServer) -> None:
    api.put(service())
    api.put(pod("p", "10.0.0.1"))
    (one,) = await settled(api)
    api.put(one | {"endpoints": []})
    assert addresses(await settled(api)) == ["10.0.0.1"]
    api.delete("EndpointSlice", "default", one["metadata"]["name"])
    assert addresses(await settled(api)) == ["10.0.0.1"]


async def test_labels_of_the_service_are_followed(api: FakeApiServer) -> None:
    api.put(service())
    await settled(api)
    api.put(service() | {"metadata": {"name": "web", "labels": {"acmg.io/shadow": "true"}}})
    (one,) = await settled(api)
    assert one["metadata"]["labels"]["acmg.io/shadow"] == "true"


async def test_slices_of_others_are_left_alone(api: FakeApiServer) -> None:
    labels = {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "acmg.io"}
    mine = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mine", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.9.9.9"]}],
    }
    stored = api.put(mine)
    api.put(service())
    await settled(api)
    assert api.get("EndpointSlice", "default", "mine") == stored


async def test_service_takes_its_slices_with_it(api: FakeApiServer) -> None:
    api.put(service())
    await settled(api)
    api.delete("Service", "default", "web")
    assert await settled(api) == []


async def test_paused_controller_catches_up(api: FakeApiServer) -> None:
    assert api.endpointslices is not None
    api.endpointslices.pause()
    api.put(service())
    assert api.objects("EndpointSlice") == []
    api.endpointslices.resume()
    assert len(await settled(api)) == 1
