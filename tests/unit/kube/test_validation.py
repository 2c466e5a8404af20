# SPDX-License-Identifier: Apache-2.0
"""What the server refuses, and what it fills in before it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kube import FakeApiServer
from tests.unit.kube.kit import SERVICES, SLICES, Client, endpoint_slice, service

if TYPE_CHECKING:
    from collections.abc import Awaitable

    Answer = Awaitable[tuple[int, Any]]

LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
MAPS = "/api/v1/namespaces/default/configmaps"


async def refused(answer: Answer) -> str:
    """Return the field that a 422 names."""
    status, body = await answer
    assert status == 422, body
    field: str = body["details"]["causes"][0]["field"]
    return field


async def test_service_is_filled_in(client: Client) -> None:
    _, made = await client.post(SERVICES, service())
    spec = made["spec"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["clusterIP"].startswith("10.96.")
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert (spec["type"], spec["sessionAffinity"], spec["internalTrafficPolicy"]) == ("ClusterIP", "None", "Cluster")
    assert spec["ports"] == [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}]


async def test_headless_service_has_no_address(client: Client) -> None:
    _, made = await client.post(SERVICES, service(clusterIP="None"))
    assert (made["spec"]["clusterIP"], made["spec"]["clusterIPs"]) == ("None", ["None"])


async def test_dual_stack_gets_two_addresses(client: Client) -> None:
    _, made = await client.post(SERVICES, service(ipFamilyPolicy="PreferDualStack"))
    assert made["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert made["spec"]["clusterIPs"][1].startswith("fd00:10:96::")


async def test_given_address_is_taken_once(client: Client) -> None:
    _, made = await client.post(SERVICES, service(clusterIP="10.96.7.7"))
    assert made["spec"]["clusterIPs"] == ["10.96.7.7"]
    assert await refused(client.post(SERVICES, service("other", clusterIP="10.96.7.7"))) == "spec.clusterIPs[0]"
    await client.ask("DELETE", f"{SERVICES}/web")
    assert (await client.post(SERVICES, service("other", clusterIP="10.96.7.7")))[0] == 201


async def test_addresses_stay_when_a_write_leaves_them_out(client: Client) -> None:
    _, made = await client.post(SERVICES, service())
    _, replaced = await client.ask("PUT", f"{SERVICES}/web", service(selector={"a": "b"}))
    assert replaced["spec"]["clusterIPs"] == made["spec"]["clusterIPs"]


@pytest.mark.parametrize("change", [{"clusterIP": "10.96.7.7"}, {"clusterIPs": ["10.96.7.7"], "clusterIP": "10.96.7.7"}])
async def test_address_does_not_change(client: Client, change: dict[str, Any]) -> None:
    await client.post(SERVICES, service())
    assert await refused(client.merge(f"{SERVICES}/web", {"spec": change})) == "spec.clusterIPs[0]"


async def test_node_port_service_gets_its_ports(client: Client) -> None:
    _, made = await client.post(SERVICES, service(type="NodePort"))
    assert made["spec"]["ports"][0]["nodePort"] >= 30000
    assert made["spec"]["externalTrafficPolicy"] == "Cluster"


TWO = [{"name": "a", "port": 80}, {"name": "a", "port": 81}]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ports": []}, "spec.ports"),
        ({"ports": TWO}, "spec.ports[1].name"),
        ({"ports": [{"name": "a", "port": 80}, {"port": 81}]}, "spec.ports[1].name"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, "spec.ports[1]"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 80, "name": "Http"}]}, "spec.ports[0].name"),
        ({"ports": [{"port": 80, "protocol": "tcp"}]}, "spec.ports[0].protocol"),
        ({"ports": [{"port": 80, "targetPort": "a-name-that-is-too-long"}]}, "spec.ports[0].targetPort"),
        ({"ports": [{"port": 80, "appProtocol": "a b"}]}, "spec.ports[0].appProtocol"),
        ({"selector": {"app": "a b"}}, "spec.selector"),
        ({"selector": {"app": "a" * 64}}, "spec.selector"),
        ({"clusterIP": "10.1.2.3"}, "spec.clusterIPs[0]"),
        ({"clusterIP": "x"}, "spec.clusterIPs[0]"),
        ({"clusterIP": "None", "type": "NodePort"}, "spec.clusterIPs[0]"),
        ({"type": "ExternalName"}, "spec.externalName"),
        ({"type": "Other"}, "spec.type"),
        ({"sessionAffinity": "Cookie"}, "spec.sessionAffinity"),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy"),
        ({"trafficDistribution": "Far"}, "spec.trafficDistribution"),
    ],
)
async def test_service_that_is_refused(client: Client, spec: dict[str, Any], field: str) -> None:
    assert await refused(client.post(SERVICES, service(**spec))) == field


@pytest.mark.parametrize("name", ["1web", "Web", "a.b", "a" * 64, "-a", "a_b"])
async def test_name_of_a_service_is_a_dns_1035_label(client: Client, name: str) -> None:
    assert await refused(client.post(SERVICES, service(name, selector={"a": "b"}))) == "metadata.name"


async def test_external_name_has_no_address(client: Client) -> None:
    _, made = await client.post(SERVICES, service(type="ExternalName", externalName="example.com"))
    assert "clusterIP" not in made["spec"]


async def test_slice_is_filled_in_and_needs_no_label(client: Client) -> None:
    status, made = await client.post(SLICES, endpoint_slice("s", "10.0.0.1", ports=[{"port": 80}]))
    assert (status, made["ports"]) == (201, [{"name": "", "port": 80, "protocol": "TCP"}])


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1", "fd00::1", "web", "10.0.0.300"])
async def test_address_that_no_slice_may_have(client: Client, address: str) -> None:
    assert await refused(client.post(SLICES, endpoint_slice("s", address))) == "endpoints[0].addresses[0]"


@pytest.mark.parametrize("address", ["::1", "fe80::1", "::", "10.0.0.1"])
async def test_address_that_no_slice_of_ipv6_may_have(client: Client, address: str) -> None:
    assert await refused(client.post(SLICES, endpoint_slice("s", address, addressType="IPv6"))) == "endpoints[0].addresses[0]"


async def test_loopback_can_be_allowed() -> None:
    async with FakeApiServer(allow_loopback=True) as api, Client(api.url) as client:
        assert (await client.post(SLICES, endpoint_slice("s", "127.0.0.1")))[0] == 201
        assert await refused(client.post(SLICES, endpoint_slice("t", "169.254.0.1"))) == "endpoints[0].addresses[0]"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"addressType": ""}, "addressType"),
        ({"addressType": "IPv5"}, "addressType"),
        ({"endpoints": [{"addresses": []}]}, "endpoints[0].addresses"),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "endpoints"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "hostname": "a.b"}]}, "endpoints[0].hostname"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "a_b"}]}, "endpoints[0].nodeName"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}, "ports[1].name"),
        ({"ports": [{"name": "A", "port": 1}]}, "ports[0].name"),
        ({"ports": [{"name": "a", "port": 70000}]}, "ports[0].port"),
        ({"ports": [{"name": "a", "port": 1, "protocol": "x"}]}, "ports[0].protocol"),
        ({"ports": [{"name": "a", "port": 1, "appProtocol": "a b"}]}, "ports[0].appProtocol"),
    ],
)
async def test_slice_that_is_refused(client: Client, fields: dict[str, Any], field: str) -> None:
    assert await refused(client.post(SLICES, endpoint_slice("s", **fields))) == field


async def test_address_type_does_not_change(client: Client) -> None:
    await client.post(SLICES, endpoint_slice("s"))
    assert await refused(client.merge(f"{SLICES}/s", {"addressType": "IPv6"})) == "addressType"


@pytest.mark.parametrize(
    ("meta", "field"),
    [
        ({"name": ""}, "metadata.name"),
        ({"name": "A"}, "metadata.name"),
        ({"name": "a", "labels": {"x": "a" * 64}}, "metadata.labels"),
        ({"name": "a", "labels": {"x": "a b"}}, "metadata.labels"),
        ({"name": "a", "labels": {"x y": "a"}}, "metadata.labels"),
        ({"name": "a", "labels": {"a/b/c": "a"}}, "metadata.labels"),
        ({"name": "a", "annotations": {"x y": "a"}}, "metadata.annotations"),
        ({"name": "a", "annotations": {"x": "a" * 256 * 1024}}, "metadata.annotations"),
        (
            {"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]},
            "metadata.ownerReferences[0].uid",
        ),
    ],
)
async def test_metadata_that_is_refused(client: Client, meta: dict[str, Any], field: str) -> None:
    assert await refused(client.post(MAPS, {"metadata": meta})) == field


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"renewTime": "now"}, "spec.renewTime"),
        ({"leaseDurationSeconds": 0}, "spec.leaseDurationSeconds"),
        ({"leaseTransitions": -1}, "spec.leaseTransitions"),
    ],
)
async def test_lease_that_is_refused(client: Client, spec: dict[str, Any], field: str) -> None:
    assert await refused(client.post(LEASES, {"metadata": {"name": "l"}, "spec": spec})) == field


async def test_lease_that_is_taken(client: Client) -> None:
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-23T18:00:00.123456Z", "leaseTransitions": 0}
    assert (await client.post(LEASES, {"metadata": {"name": "l"}, "spec": spec}))[0] == 201


EVENT: dict[str, Any] = {
    "metadata": {"name": "e"},
    "eventTime": "2026-11-23T18:00:00.123456Z",
    "reason": "Captured",
    "action": "Capture",
    "type": "Normal",
    "note": "text",
    "reportingController": "acmg.io/controller",
    "reportingInstance": "acmg-controller-0",
    "regarding": {"kind": "Service", "namespace": "default", "name": "web"},
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"action": "a" * 129}, "action"),
        ({"eventTime": None}, "eventTime"),
        ({"type": "Odd"}, "type"),
        ({"note": "x" * 1025}, "note"),
        ({"regarding": {"kind": "Service", "namespace": "other", "name": "web"}}, "involvedObject.namespace"),
    ],
)
async def test_event_that_is_refused(client: Client, change: dict[str, Any], field: str) -> None:
    assert (await client.post(EVENTS, EVENT))[0] == 201
    assert await refused(client.post(EVENTS, EVENT | {"metadata": {"name": "f"}} | change)) == field


async def test_event_stands_where_its_object_does(client: Client) -> None:
    path, involved = "/api/v1/namespaces/default/events", {"kind": "Service", "namespace": "other", "name": "web"}
    event = {"metadata": {"name": "e"}, "involvedObject": involved}
    assert await refused(client.post(path, event)) == "involvedObject.namespace"


async def test_selector_of_a_workload_chooses_its_pods_for_good(client: Client) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "c"}}, "template": template}}
    assert await refused(client.post(path, body)) == "spec.template.metadata.labels"
    body["spec"] = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    _, made = await client.post(path, body)
    assert made["spec"]["replicas"] == 1
    change = {"spec": {"selector": {"matchLabels": {"x": "b"}}, "template": {"metadata": {"labels": {"x": "b"}}}}}
    assert await refused(client.merge(f"{path}/d", change)) == "spec.selector"


async def test_unknown_fields_are_dropped_unless_the_client_is_strict(client: Client) -> None:
    body = service() | {"sepc": {}}
    status, made = await client.post(SERVICES, body, dryRun="All")
    assert status == 201
    assert "sepc" not in made
    status, answer = await client.post(SERVICES, body, fieldValidation="Strict")
    assert status == 400
    assert 'unknown field "sepc"' in answer["message"]


async def test_null_counts_as_absent(client: Client) -> None:
    status, made = await client.post(SERVICES, service(ports=[{"port": 80, "targetPort": None}], selector=None))
    assert (status, made["spec"]["ports"][0]["targetPort"]) == (201, 80)


async def test_wrong_type_cannot_be_decoded(client: Client) -> None:
    status, answer = await client.post(SERVICES, service(ports=[{"port": "80"}]))
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert "spec.ports[0].port" in answer["message"]
