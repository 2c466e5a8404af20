# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from acmgproxy.controller.desired import (
    direct_slices,
    gateway_endpoints,
    gateway_slice,
    is_same_slice,
    shadow_body,
    shadow_patch,
    slice_body,
)
from acmgproxy.controller.gateways import Gateway
from acmgproxy.controller.names import shadow_name
from acmgproxy.controller.objects import EndpointSlice, Service
from tests.unit.controller.objects import make_service


def gateway(name: str, zone: str = "") -> Gateway:
    addresses = {"IPv4": f"10.1.0.{name[-1]}"}
    return Gateway(
        namespace="acmg-system", name=name, uid=name, node="n", zone=zone, addresses=addresses, is_ready=True, bound={}, errors={}
    )


def stored(body: dict[str, Any], **changes: Any) -> Service:
    return msgspec.convert(body | {"spec": body["spec"] | changes}, Service)


def real_slice(*addresses: str, zone: str | None = None) -> EndpointSlice:
    endpoints = [{"addresses": [one], "zone": zone, "hints": {"forZones": [{"name": "old"}]}} for one in addresses]
    ports = [{"name": "http", "port": 8080}, {"name": "db", "port": 5432}]
    return msgspec.convert(
        {"metadata": {"name": "s"}, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}, EndpointSlice
    )


@pytest.mark.parametrize("length", [1, 58, 59, 63])
def test_a_shadow_has_a_name_that_a_service_may_have(length: int) -> None:
    name = shadow_name("a" * length)
    assert len(name) <= 63
    assert name.endswith("-acmg")
    assert (name == "a" * length + "-acmg") is (length <= 58)


def test_long_names_with_the_same_beginning_have_different_shadows() -> None:
    assert shadow_name("a" * 62 + "b") != shadow_name("a" * 62 + "c")


def test_a_shadow_is_headless_and_has_the_selector_without_our_key_and_no_label_of_the_user() -> None:
    service = make_service(
        meta={"labels": {"team": "a", "acmg.io/capture": "enabled"}},
        selector={"app": "hello", "acmg.io/captured": "true"},
        ports=[{"name": "http", "port": 80, "targetPort": "web", "appProtocol": "http", "nodePort": 30000}],
        ipFamilies=["IPv6"],
        ipFamilyPolicy="SingleStack",
        publishNotReadyAddresses=True,
    )
    body = shadow_body(service, {80: 20001})
    assert body["metadata"]["labels"] == {"acmg.io/shadow": "true", "acmg.io/shadow-of": "hello"}
    assert body["metadata"]["annotations"] == {"acmg.io/gateway-ports": '{"80":20001}'}
    assert body["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Service", "name": "hello", "uid": "u1"}]
    assert body["spec"] == {
        "clusterIP": "None",
        "selector": {"app": "hello"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": "web", "name": "http", "appProtocol": "http"}],
        "publishNotReadyAddresses": True,
        "ipFamilies": ["IPv6"],
        "ipFamilyPolicy": "SingleStack",
    }


def test_a_shadow_that_is_right_is_left_alone_whatever_else_it_has() -> None:
    body = shadow_body(make_service(), {80: 20001})
    body["metadata"]["labels"] |= {"somebody": "else"}
    assert (
        shadow_patch(stored(body, sessionAffinity="None", ipFamilies=["IPv4"]), shadow_body(make_service(), {80: 20001})) is None
    )


def test_a_shadow_that_is_wrong_is_patched_where_it_is() -> None:
    body = shadow_body(make_service(), {80: 20001})
    wrong = stored(body, selector={"app": "hello", "more": "x"}, ports=[])
    assert shadow_patch(wrong, body) == {
        "metadata": {"resourceVersion": ""},
        "spec": {"selector": {"app": "hello", "more": None}, "ports": body["spec"]["ports"]},
    }
    other = shadow_body(make_service(meta={"uid": "u2"}), {80: 20002})
    patch = shadow_patch(stored(body), other)
    assert patch is not None
    assert patch["metadata"]["annotations"] == {"acmg.io/gateway-ports": '{"80":20002}'}
    assert patch["metadata"]["ownerReferences"][0]["uid"] == "u2"


@pytest.mark.parametrize(
    ("zones", "distribution", "hinted"),
    [
        (("a", "b"), "PreferClose", True),
        (("a", "b"), "PreferSameZone", True),
        (("a", "b"), "PreferSameNode", True),
        (("a", "b"), None, False),
        (("a", ""), "PreferClose", False),
    ],
)
def test_gateways_carry_hints_only_if_asked_and_all_zones_are_known(zones: Any, distribution: Any, *, hinted: bool) -> None:
    gateways = [gateway(f"gw-{number}", zone) for number, zone in enumerate(zones)]
    endpoints = gateway_endpoints(gateways, "IPv4", make_service(trafficDistribution=distribution))
    assert [one.hints is not None for one in endpoints] == [hinted] * 2


def test_direct_slices_repeat_the_real_ones_for_the_ports_that_are_asked_for() -> None:
    (found,) = direct_slices(make_service(), [real_slice("10.0.0.1")], frozenset({"db"}))
    assert [(one.name, one.port) for one in found.ports] == [("db", 5432)]
    assert [(one.addresses, one.hints) for one in found.endpoints] == [(("10.0.0.1",), None)]
    assert direct_slices(make_service(), [real_slice("10.0.0.1")], frozenset()) == ()
    assert direct_slices(make_service(), [real_slice()], frozenset({"db"})) == ()


def test_a_slice_is_the_same_whatever_its_order_and_the_servers_additions() -> None:
    service = make_service(ports=[{"name": "http", "port": 80}, {"name": "http-b", "port": 81}])
    endpoints = gateway_endpoints([gateway("gw-1"), gateway("gw-2")], "IPv4", service)
    wanted = gateway_slice(service, "IPv4", endpoints, zip(service.ports, (20000, 20001), strict=True))
    body = slice_body(wanted)
    body["metadata"] |= {"uid": "s", "labels": body["metadata"]["labels"] | {"x": "y"}, "generation": 3}
    body["ports"] = [one | {"protocol": "TCP"} for one in reversed(body["ports"])]
    body["endpoints"] = list(reversed(body["endpoints"]))
    found = msgspec.convert(body, EndpointSlice)
    assert is_same_slice(found, wanted)
    assert not is_same_slice(found, replace(wanted, endpoints_=endpoints[:1]))
    assert not is_same_slice(found, gateway_slice(service, "IPv4", endpoints, [(service.ports[0], 20000)]))
    assert not is_same_slice(replace(found, meta=replace(found.meta, labels_={})), wanted)
    assert not is_same_slice(replace(found, meta=replace(found.meta, owners_=())), wanted)
