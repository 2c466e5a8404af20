# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.interop.controller_world import QUICK, SYSTEM, World, eventually, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from acmgproxy.controller.app import Controller


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path) as world:
        yield world
        assert not world.broken


def unlabelled(one: dict[str, Any]) -> None:
    one["metadata"]["labels"] = {}


async def captured(world: World) -> Controller:
    """Start a controller that has captured hello."""
    await world.two_gateways_and_pods()
    world.api.put(service())
    controller = await world.controller()
    await eventually(world.is_captured)
    await eventually(lambda: not world.natively())
    return controller


async def test_a_service_is_captured_and_released_without_a_moment_without_a_way(world: World) -> None:
    await captured(world)
    (number,) = world.gateway_ports().values()
    assert world.listed() == {"gw-1": {"http": number}, "gw-2": {"http": number}}
    assert world.directly() == {("10.0.0.1", "db", 5432), ("10.0.0.2", "db", 5432)}
    assert [(verb, kind) for verb, kind, _ in world.writes] == [
        ("POST", "Service"),
        ("POST", "EndpointSlice"),
        ("POST", "EndpointSlice"),
        ("PATCH", "Service"),
    ]
    world.edit(unlabelled)
    await eventually(world.is_clean)
    assert world.natively() == {"10.0.0.1", "10.0.0.2"}
    assert not world.dead_ways
    await eventually(lambda: [reason for _, reason, _ in world.events()] == ["Captured", "Released"])


async def test_gateway_slices_say_whose_they_are_and_where_gateways_run(world: World) -> None:
    await captured(world)
    owner = {"apiVersion": "v1", "kind": "Service", "name": "hello", "uid": world.get()["metadata"]["uid"], "controller": True}
    for one in world.ours():
        assert one["metadata"]["labels"] == {
            "kubernetes.io/service-name": "hello",
            "endpointslice.kubernetes.io/managed-by": "acmg.io",
        }
        assert one["metadata"]["ownerReferences"] == [owner]
    (slice_,) = (one for one in world.ours() if one["metadata"]["name"] == "hello-acmg-gateway-ipv4")
    endpoint = min(slice_["endpoints"], key=lambda one: str(one["nodeName"]))
    assert (endpoint["nodeName"], endpoint["zone"], "hints" in endpoint) == ("node-gw-1", "zone-gw-1", False)


async def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    controller = await captured(world)
    await world.stop(controller)
    world.writes.clear()
    controller = await world.controller("two")
    await eventually(lambda: controller.is_leader and controller.is_idle)
    world.pod("other", "10.0.9.9", app="other")
    world.edit(lambda one: one["metadata"].update(labels=one["metadata"]["labels"] | {"team": "a"}))
    await eventually(lambda: controller.is_idle)
    assert world.writes == []


@pytest.mark.parametrize("lost", [True, False], ids=["answer lost", "answer seen"])
async def test_a_controller_killed_after_every_single_write_still_gets_there(world: World, lost: bool) -> None:
    await world.two_gateways_and_pods()
    world.api.put(service())
    wrote = asyncio.Event()
    running: Controller | None = None

    def after_write(_method: str, _obj: dict[str, Any]) -> None:
        if lost and running is not None:
            world.wound(running)
        wrote.set()

    world.after_write = after_write

    async def until(done: Callable[[], object]) -> int:
        nonlocal running
        lives = 0
        async with asyncio.timeout(30):
            while not done():
                wrote.clear()
                running = await world.controller()
                lives += 1
                waits = [asyncio.ensure_future(wrote.wait()), asyncio.ensure_future(eventually(done))]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                killed, running = running, None
                await world.kill(killed)
        return lives

    assert await until(world.is_captured) >= 3  # some writes are made at once
    assert len(world.listed()) == 2
    world.edit(unlabelled)
    assert await until(world.is_clean) >= 3
    assert world.natively() == {"10.0.0.1", "10.0.0.2"}
    assert not world.dead_ways


async def test_release_waits_for_the_native_slices_however_long_they_take(world: World) -> None:
    controller = await captured(world)
    assert world.api.endpointslices is not None
    world.api.endpointslices.pause()
    world.edit(unlabelled)
    await eventually(lambda: "acmg.io/captured" not in world.get()["spec"]["selector"])
    await eventually(lambda: controller.is_idle)
    assert set(world.listed()) == {"gw-1", "gw-2"}
    # Meanwhile a gateway goes, and must not stay.
    world.gateways["gw-1"].is_ready = False
    await eventually(lambda: set(world.listed()) == {"gw-2"})
    world.api.endpointslices.resume()
    await eventually(world.is_clean)


async def test_capture_waits_until_every_gateway_is_prepared_and_says_for_what(world: World) -> None:
    await world.two_gateways_and_pods()
    world.gateways["gw-2"].unbound.add(80)
    world.api.put(service())
    await world.controller()
    await eventually(lambda: world.status().startswith("pending: gateway gw-2 does not listen for port 80"))
    assert world.status().endswith(": in use")
    assert not world.ours()
    world.gateways["gw-2"].unbound.clear()
    await eventually(world.is_captured)


async def test_a_service_without_endpoints_is_not_captured_until_it_has_some(world: World) -> None:
    await world.gateway("gw-1")
    world.api.put(service())
    await world.controller()
    await eventually(lambda: world.status().startswith("pending: it has no endpoints"))
    world.pod("a", "10.0.0.1")
    await eventually(world.is_captured)


async def test_a_gateway_that_is_not_ready_leaves_at_once_and_comes_back(world: World) -> None:
    await captured(world)
    world.gateways["gw-1"].is_ready = False
    await eventually(lambda: set(world.listed()) == {"gw-2"})
    world.gateways["gw-1"].is_ready = True
    await eventually(lambda: set(world.listed()) == {"gw-1", "gw-2"})
    await world.gateways["gw-2"].stop()
    await eventually(lambda: set(world.listed()) == {"gw-1"})


async def test_a_terminating_gateway_leaves_at_once(world: World) -> None:
    await captured(world)
    pod = world.api.get("Pod", SYSTEM, "gw-1")
    assert pod is not None
    pod["metadata"] |= {"deletionTimestamp": "2026-11-23T12:00:00Z", "deletionGracePeriodSeconds": 60}
    world.api.put(pod)
    await eventually(lambda: set(world.listed()) == {"gw-2"})


async def test_a_new_gateway_comes_in_once_it_serves_all_ports(world: World) -> None:
    await captured(world)
    world.edit(lambda one: one["spec"]["ports"].append({"name": "http-b", "port": 81, "targetPort": 8081, "protocol": "TCP"}))
    await eventually(lambda: len(world.listed()["gw-1"]) == 2)
    third = await world.gateway("gw-3")
    third.unbound.add(81)
    controller = world.running[0]
    await eventually(lambda: any(one.name == "gw-3" and one.is_ready for one in controller.gateways) and controller.is_idle)
    assert set(world.listed()) == {"gw-1", "gw-2"}
    third.unbound.clear()
    await eventually(lambda: set(world.listed()) == {"gw-1", "gw-2", "gw-3"})


async def test_without_gateways_traffic_goes_direct_and_comes_back_when_they_have_been_ready(world: World) -> None:
    await captured(world)
    ports = world.gateway_ports()
    world.gateways["gw-1"].is_ready = False
    await eventually(lambda: set(world.listed()) == {"gw-2"})
    world.gateways["gw-2"].is_ready = False
    await eventually(lambda: not world.ours())
    assert world.status().startswith("direct: no gateway is ready")
    assert world.natively() == {"10.0.0.1", "10.0.0.2"}
    assert world.gateway_ports() == ports
    world.gateways["gw-2"].is_ready = True
    await eventually(world.is_captured)
    assert world.gateway_ports() == ports
    await eventually(lambda: [reason for _, reason, _ in world.events()] == ["Captured", "FailedOpen"])


async def test_the_last_gateway_stays_listed_until_traffic_is_direct(world: World) -> None:
    await captured(world)
    assert world.api.endpointslices is not None
    world.api.endpointslices.pause()
    for gateway in world.gateways.values():
        gateway.is_ready = False
    await eventually(lambda: "acmg.io/captured" not in world.get()["spec"]["selector"])
    assert world.listed()
    world.api.endpointslices.resume()
    await eventually(lambda: not world.listed())


async def test_another_replica_takes_over_and_changes_nothing(world: World) -> None:
    first = await captured(world)
    second = await world.controller("two")
    leader, follower = first, second
    await eventually(lambda: follower.is_ready)
    assert leader.is_leader
    assert not follower.is_leader
    world.writes.clear()
    await world.kill(first)
    await eventually(lambda: follower.is_leader and follower.is_idle)
    assert world.writes == []
    world.edit(unlabelled)
    await eventually(world.is_clean)


async def test_a_leader_that_is_stopped_hands_over_at_once(world: World) -> None:
    slow = replace(QUICK, lease_s=3600.0, renew_deadline_s=1800.0)
    first = await world.controller("one", slow)
    await eventually(lambda: first.is_leader)
    second = await world.controller("two", slow)
    await world.stop(first)
    await eventually(lambda: second.is_leader)


async def test_ports_survive_a_restart_and_are_never_shared(world: World) -> None:
    await world.two_gateways_and_pods()
    names = [f"hello-{number}" for number in range(8)]
    for number, name in enumerate(names):
        world.api.put(service(name, selector={"app": "hello"}, clusterIP=f"10.96.1.{number + 1}"))
    controller = await world.controller()
    await eventually(lambda: all(world.is_captured(name) for name in names))
    before = {name: world.gateway_ports(name) for name in names}
    assert len({number for ports in before.values() for number in ports.values()}) == len(names)
    await world.kill(controller)
    world.writes.clear()
    controller = await world.controller()
    await eventually(lambda: controller.is_leader and controller.is_idle)
    assert {name: world.gateway_ports(name) for name in names} == before
    assert world.writes == []


async def test_two_services_that_claim_one_port_are_settled_for_the_older(world: World) -> None:
    controller = await captured(world)
    await world.kill(controller)
    ports = world.gateway_ports()
    shadow = world.get("hello-acmg")
    world.api.put(service("copy", selector={"app": "hello"}, clusterIP="10.96.0.11"))
    copy = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "copy-acmg",
            "namespace": "default",
            "labels": {"acmg.io/shadow": "true", "acmg.io/shadow-of": "copy"},
            "annotations": shadow["metadata"]["annotations"],
            "creationTimestamp": "2100-01-01T00:00:00Z",
        },
        "spec": {"clusterIP": "None", "selector": {"app": "hello"}, "ports": shadow["spec"]["ports"]},
    }
    world.api.put(copy)
    await world.controller("two")
    await eventually(lambda: world.is_captured("copy"))
    assert world.gateway_ports() == ports
    assert not set(world.gateway_ports("copy").values()) & set(ports.values())


async def test_what_others_delete_or_edit_is_restored(world: World) -> None:
    controller = await captured(world)
    ports, uid = world.gateway_ports(), world.get("hello-acmg")["metadata"]["uid"]
    # By the user's tools, a little later: the whole selector, without our key.
    world.edit(lambda one: one["spec"].update(selector={"app": "hello"}))
    await eventually(lambda: world.is_captured() and not world.natively())
    # A gateway slice edited, a direct slice edited.
    for one in world.ours():
        one["ports"][0]["port"] = 1
        world.api.put(one)
        await eventually(lambda: all(port != 1 for found in world.ours() for port in [found["ports"][0]["port"]]))
    shadow = world.get("hello-acmg")
    shadow["metadata"] |= {"labels": {}, "annotations": {}}
    shadow["spec"]["selector"] = {"app": "hello", "more": "x"}
    world.broken.clear()
    world.api.put(shadow)
    await eventually(lambda: world.gateway_ports() == ports if world.get("hello-acmg")["metadata"].get("annotations") else False)
    assert world.get("hello-acmg")["spec"]["selector"] == {"app": "hello"}
    world.api.delete("Service", "default", "hello-acmg")
    await eventually(lambda: world.api.get("Service", "default", "hello-acmg") is not None)
    assert world.get("hello-acmg")["metadata"]["uid"] != uid
    assert world.gateway_ports() == ports
    await eventually(lambda: world.is_captured() and controller.is_idle)
    world.broken.clear()  # what somebody deletes is gone until it is made again


async def test_a_deleted_gateway_slice_is_made_again(world: World) -> None:
    await captured(world)
    world.api.delete("EndpointSlice", "default", "hello-acmg-gateway-ipv4")
    world.broken.clear()
    await eventually(lambda: len(world.listed()) == 2)


async def test_ports_may_be_added_renamed_excluded_and_removed(world: World) -> None:
    await captured(world)
    first = world.gateway_ports()
    world.edit(lambda one: one["spec"]["ports"].append({"name": "http-b", "port": 81, "targetPort": 8081, "protocol": "TCP"}))
    await eventually(lambda: set(world.listed().get("gw-1", {})) == {"http", "http-b"} and world.is_captured())
    assert world.gateway_ports().items() > first.items()
    await eventually(lambda: {name for _, name, _ in world.directly()} == {"db"})

    def rename(one: dict[str, Any]) -> None:
        one["spec"]["ports"][0]["name"] = "http-first"

    world.edit(rename)
    await eventually(lambda: world.listed().get("gw-1") == {"http-first": first[80], "http-b": world.gateway_ports()[81]})

    def exclude(one: dict[str, Any]) -> None:
        one["metadata"].setdefault("annotations", {})["acmg.io/exclude-ports"] = "81"

    world.edit(exclude)
    await eventually(lambda: set(world.listed().get("gw-1", {})) == {"http-first"})
    assert {name for _, name, _ in world.directly()} == {"db", "http-b"}
    await eventually(lambda: world.gateway_ports() == first)

    def remove(one: dict[str, Any]) -> None:
        del one["spec"]["ports"][1]

    world.edit(remove)
    await eventually(lambda: {name for _, name, _ in world.directly()} == {"http-b"})
    assert world.is_captured()


async def test_a_selector_that_changes_reaches_the_shadow(world: World) -> None:
    await captured(world)
    world.pod("c", "10.0.0.3", app="green")

    def edit(one: dict[str, Any]) -> None:
        one["spec"]["selector"]["app"] = "green"

    world.edit(edit)
    await eventually(lambda: world.directly() == {("10.0.0.3", "db", 5432)})
    assert world.get("hello-acmg")["spec"]["selector"] == {"app": "green"}
    assert world.get()["spec"]["selector"] == {"app": "green", "acmg.io/captured": "true"}


async def test_a_service_that_must_not_be_captured_is_refused_and_one_that_was_is_released(world: World) -> None:
    await captured(world)
    world.edit(lambda one: one["spec"].update(internalTrafficPolicy="Local"))
    await eventually(lambda: world.status().startswith("refused: spec.internalTrafficPolicy is Local"))
    await eventually(lambda: world.api.get("Service", "default", "hello-acmg") is None)
    assert world.natively() == {"10.0.0.1", "10.0.0.2"}
    await eventually(lambda: ("Warning", "CaptureRefused") in [(type_, reason) for type_, reason, _ in world.events()])
    world.edit(lambda one: one["spec"].update(internalTrafficPolicy="Cluster"))
    await eventually(world.is_captured)


async def test_a_name_that_is_taken_refuses_capture_and_is_left_alone(world: World) -> None:
    await world.two_gateways_and_pods()
    taken = service("hello-acmg", clusterIP="10.96.0.77", metadata={"labels": {}})
    world.api.put(taken)
    version = world.get("hello-acmg")["metadata"]["resourceVersion"]
    world.api.put(service())
    await world.controller()
    await eventually(lambda: world.status().startswith("refused: there is a Service hello-acmg"))
    assert world.get("hello-acmg")["metadata"]["resourceVersion"] == version


async def test_services_that_never_asked_are_never_touched(world: World) -> None:
    await world.two_gateways_and_pods()
    world.api.put(service("quiet", metadata={"labels": {}}, selector={"app": "hello"}, clusterIP="10.96.0.20"))
    world.api.put(service("shy", metadata={"labels": {"acmg.io/capture": "disabled"}}, clusterIP="10.96.0.21"))
    world.api.put(service())
    await world.controller()
    await eventually(world.is_captured)
    assert not [name for _, kind, name in world.writes if kind == "Service" and name in {"quiet", "shy"}]


async def test_the_label_of_a_namespace_captures_what_is_in_it(world: World) -> None:
    await world.two_gateways_and_pods()
    world.api.put(service(metadata={"labels": {}}))
    world.api.put(service("shy", metadata={"labels": {"acmg.io/capture": "disabled"}}, clusterIP="10.96.0.21"))
    await world.controller()
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {"acmg.io/capture": "enabled"}}}
    world.api.put(space)
    await eventually(world.is_captured)
    assert world.status("shy") == ""
    space["metadata"] = {"name": "default", "labels": {}}
    world.api.put(space)
    await eventually(world.is_clean)


async def test_a_virtual_service_bound_to_the_gateways_captures_its_hosts_and_destinations(world: World) -> None:
    await world.two_gateways_and_pods()
    for number, name in enumerate(("hello", "v2", "other")):
        plain = service(name, metadata={"labels": {}}, selector={"app": "hello"}, clusterIP=f"10.96.2.{number + 1}")
        world.api.put(plain)
    world.define_virtual_services()
    await world.controller()
    bound = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {
            "hosts": ["hello.default.svc.cluster.local"],
            "gateways": ["mesh", "acmg-system/acmg-gateway"],
            "http": [{"route": [{"destination": {"host": "v2"}}]}],
        },
    }
    world.api.put(bound)
    await eventually(lambda: world.is_captured() and world.is_captured("v2"))
    assert world.status("other") == ""
    world.api.delete("VirtualService", "default", "hello")
    await eventually(lambda: world.is_clean() and world.is_clean("v2"))


async def test_a_deleted_service_takes_everything_with_it(world: World) -> None:
    controller = await captured(world)
    shadow = world.get("hello-acmg")
    shadow["metadata"]["ownerReferences"] = []
    world.api.put(shadow)
    await world.delete("/api/v1/namespaces/default/services/hello")
    await eventually(lambda: world.api.get("Service", "default", "hello-acmg") is None and not world.ours())
    await eventually(lambda: controller.is_idle)


async def test_a_namespace_that_goes_is_left_to_the_cluster(world: World) -> None:
    await world.two_gateways_and_pods()
    world.put_pod_in("shop", "a", "10.0.1.1")
    world.api.put(service(metadata={"namespace": "shop", "labels": {"acmg.io/capture": "enabled"}}))
    controller = await world.controller()
    await eventually(lambda: "acmg.io/captured" in world.get(namespace="shop")["spec"]["selector"])
    world.writes.clear()
    await world.delete("/api/v1/namespaces/shop")
    await eventually(lambda: not world.api.objects("Service", "shop"))
    await eventually(lambda: controller.is_idle)
    assert not [one for one in world.writes if one[0] in {"POST", "PUT", "PATCH"}]


async def test_the_switch_releases_everything_without_a_trace(world: World) -> None:
    await captured(world)
    world.api.put(service("bare", clusterIP="None"))
    await eventually(lambda: world.status("bare").startswith("refused:"))
    off = {"name": SYSTEM, "labels": {"acmg.io/capture": "disabled"}}
    world.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": off})
    await eventually(lambda: world.is_clean() and world.status("bare") == "")


async def test_a_service_of_both_families_gets_slices_of_both(world: World) -> None:
    await world.gateway("gw-1", "fd00::9:1")
    world.pod("a", "10.0.0.1", "fd00::1")
    both: dict[str, Any] = {
        "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack",
        "clusterIPs": ["10.96.0.10", "fd00:10:96::10"],
    }
    world.api.put(service(trafficDistribution="PreferSameZone", **both))
    await world.controller()
    await eventually(world.is_captured)
    slices = {one["addressType"]: one for one in world.ours() if "-gateway-" in one["metadata"]["name"]}
    assert {family: one["endpoints"][0]["addresses"] for family, one in slices.items()} == {
        "IPv4": [world.gateways["gw-1"].address],
        "IPv6": ["fd00::9:1"],
    }
    assert slices["IPv6"]["endpoints"][0]["hints"] == {"forZones": [{"name": "zone-gw-1"}]}
    assert {address for address, _, _ in world.directly()} == {"10.0.0.1", "fd00::1"}


async def test_a_gateway_without_an_address_of_the_family_is_said(world: World) -> None:
    await world.gateway("gw-1")
    world.pod("a", "fd00::1")
    world.api.put(service(ipFamilies=["IPv6"], clusterIP="fd00:10:96::10", clusterIPs=["fd00:10:96::10"]))
    await world.controller()
    await eventually(lambda: world.status().startswith("pending: no gateway has an address of every family"))


async def test_refused_writes_are_tried_again(world: World) -> None:
    await world.two_gateways_and_pods()
    world.api.put(service())
    for status in (500, 429, 409, 403):
        world.api.faults.answer(
            status, match=lambda request: request.method in {"POST", "PATCH"} and "leases" not in request.path
        )
    await world.controller()
    await eventually(world.is_captured)


async def test_the_command_tells_its_health_and_gives_the_lease_back_on_sigterm(world: World) -> None:
    await world.two_gateways_and_pods()
    world.api.put(service())
    with socket.create_server(("127.0.0.1", 0)) as sock:
        health = f"127.0.0.1:{sock.getsockname()[1]}"
    command = [sys.executable, "-m", "acmgproxy", "controller", "--kubeconfig", str(world.kubeconfig), "--health", health]
    process = await asyncio.create_subprocess_exec(*command, "--identity", "one", stderr=asyncio.subprocess.PIPE)
    try:
        await eventually(lambda: (world.lease() or {}).get("holderIdentity") == "one")
        async with aiohttp.ClientSession(base_url=f"http://{health}") as session:
            pages = {}
            for path in ("/healthz", "/ready", "/metrics"):
                async with session.get(path) as answer:
                    pages[path] = answer.status, await answer.text()
    finally:
        process.terminate()
        _, text = await process.communicate()
    assert process.returncode == 0, text
    assert pages["/healthz"] == (200, "ok\n")
    assert pages["/ready"] == (200, "ready, leading\n")
    assert "acmg_controller_leader 1.0" in pages["/metrics"][1]
    assert 'acmg_watch_synced{kind="Service"} 1.0' in pages["/metrics"][1]
    assert (world.lease() or {}).get("holderIdentity") == ""
