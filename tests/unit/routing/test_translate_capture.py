# SPDX-License-Identifier: Apache-2.0
"""Captured Services: gateway ports, and endpoints at every step of capture and release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import ListenerSpec
from tests.unit.routing.objects import (
    codes,
    destination_rule,
    endpoint,
    endpoint_slice,
    make,
    service,
    shadow,
    shadow_slice,
    to,
    translated,
    virtual_service,
)

if TYPE_CHECKING:
    from routing.translate import Translation
    from tests.unit.routing.objects import Obj

B = "b.default.svc.cluster.local"
C = "c.default.svc.cluster.local"
FIELD = "metadata.annotations.acmg.io/gateway-ports"


def _gateway(*objects: Obj, addresses: tuple[str, ...] = ("10.9.0.1",), **options: Any) -> Translation:
    return translated(*objects, listeners="gateway-ports", gateway_addresses=addresses, **options)


def _binds(translation: Translation) -> dict[str, tuple[tuple[str, int], ...]]:
    return {name: spec.binds for name, spec in translation.specs.listeners.items()}


def test_a_shadow_names_the_gateway_port_of_each_port() -> None:
    found = _gateway(service("b", clusterIP="127.0.0.1"), shadow("b", gateway_ports={80: 20000, 8080: 20001}))
    assert found.specs.listeners == {
        f"{B}:80": ListenerSpec(name=f"{B}:80", port=80, binds=(("10.9.0.1", 20000),), virtual_host=f"{B}:80"),
        f"{B}:8080": ListenerSpec(name=f"{B}:8080", port=8080, binds=(("10.9.0.1", 20001),), virtual_host=f"{B}:8080"),
    }
    assert set(found.specs.virtual_hosts) == set(found.specs.listeners)
    assert codes(found) == []


def test_a_gateway_port_is_bound_at_every_address_once() -> None:
    objects = (service("b"), shadow("b", gateway_ports={80: 20000}))
    assert _binds(_gateway(*objects, addresses=("10.9.0.1", "fd00::1", "10.9.0.1"))) == {
        f"{B}:80": (("10.9.0.1", 20000), ("fd00::1", 20000))
    }
    assert _binds(_gateway(*objects, addresses=())) == {}
    assert _binds(translated(*objects)) == {}


def test_a_shadow_is_no_host() -> None:
    objects = (
        service("b"),
        shadow("b", gateway_ports={80: 20000}),
        virtual_service("vs", ["b"], {"route": [to("b-acmg")]}),
        destination_rule("dr", "b-acmg"),
    )
    specs = _gateway(*objects).specs
    assert set(specs.virtual_hosts) == {f"{B}:80", f"{B}:8080"}
    assert set(specs.clusters) == {f"outbound|80||{B}", f"outbound|8080||{B}"}
    assert [code for code, _, _ in codes(_gateway(*objects))] == ["IST0101", "IST0174"]


def test_a_port_that_the_service_has_no_longer_is_passed_over() -> None:
    found = _gateway(service("b", ports=[{"name": "http", "port": 80}]), shadow("b", gateway_ports={80: 20000, 8080: 20001}))
    assert list(_binds(found)) == [f"{B}:80"]
    assert codes(found) == []
    assert _binds(_gateway(service("b"), shadow("b"))) == {}


@pytest.mark.parametrize("text", ["", "x", "[]", '{"80":80}', '{"0":20000}', '{"80":20000,"8080":20000}', '{"80":"20000"}'])
def test_a_bad_annotation_is_reported_and_affects_nobody_else(text: str) -> None:
    found = _gateway(service("b"), shadow("b", gateway_ports=text), service("c"), shadow("c", gateway_ports={80: 20000}))
    assert _binds(found) == {f"{C}:80": (("10.9.0.1", 20000),)}
    assert codes(found) == [("ACMG024", "default/b-acmg", FIELD)]


@pytest.mark.parametrize(
    ("lonely", "reason"),
    [
        (shadow("x", gateway_ports={80: 20000}), "there is no Service default/x that could be captured"),
        (shadow("", name="y", gateway_ports={80: 20000}), "it does not say whose shadow it is"),
        (shadow("alias", gateway_ports={80: 20000}), "there is no Service default/alias that could be captured"),
    ],
)
def test_a_shadow_of_nothing_is_reported(lonely: Obj, reason: str) -> None:
    alias = service("alias", type="ExternalName", externalName="c.default.svc.cluster.local", ports=[])
    found = _gateway(lonely, alias, service("c"), shadow("c", gateway_ports={80: 20000}))
    assert _binds(found) == {f"{C}:80": (("10.9.0.1", 20000),)}
    assert [(entry.code, entry.message) for entry in found.diagnostics] == [("ACMG025", reason)]


def test_a_shadow_stands_for_a_service_of_its_own_namespace() -> None:
    found = _gateway(service("b"), shadow("b", "other", gateway_ports={80: 20000}))
    assert _binds(found) == {}
    assert codes(found) == [("ACMG025", "other/b-acmg", "metadata.labels")]


def test_of_two_services_with_one_gateway_port_the_older_has_it() -> None:
    objects = (
        service("b", created="2024-01-02"),
        shadow("b", gateway_ports={80: 20000, 8080: 20001}, created="2024-01-01"),
        service("c", created="2024-01-01"),
        shadow("c", gateway_ports={80: 20000}, created="2024-01-02"),
    )
    for found in (_gateway(*objects), _gateway(*reversed(objects))):
        assert _binds(found) == {f"{C}:80": (("10.9.0.1", 20000),), f"{B}:8080": (("10.9.0.1", 20001),)}
        assert codes(found) == [("ACMG026", "default/b-acmg", FIELD)]
        assert f"gateway port 20000 belongs to {C}:80" in found.diagnostics[0].message


def test_a_service_with_two_shadows_has_the_gateway_ports_of_both() -> None:
    first = shadow("b", gateway_ports={80: 20000}, created="2024-01-01")
    second = shadow("b", name="b-new", gateway_ports={80: 20000, 8080: 20002}, created="2024-01-02")
    third = shadow("b", name="b-newest", gateway_ports={80: 20003, 8080: 20000}, created="2024-01-03")
    found = _gateway(service("b"), third, second, first)
    assert _binds(found) == {
        f"{B}:80": (("10.9.0.1", 20000), ("10.9.0.1", 20003)),
        f"{B}:8080": (("10.9.0.1", 20002),),
    }
    assert codes(found) == [("ACMG026", "default/b-newest", FIELD)]


def test_the_shared_listener_keeps_its_address() -> None:
    found = _gateway(service("b"), shadow("b", gateway_ports={80: 20000, 8080: 20001}), shared_binds=(("10.9.0.1", 20000),))
    assert _binds(found) == {"shared": (("10.9.0.1", 20000),), f"{B}:8080": (("10.9.0.1", 20001),)}
    assert codes(found) == [("ACMG026", "default/b-acmg", FIELD)]


def test_virtual_services_bound_to_the_gateway_hold_on_gateway_ports() -> None:
    rules = {"route": [to("c")]}
    own = virtual_service("vs", ["b"], rules, gateways=["istio-system/acmg-gateway"])
    specs = _gateway(service("b"), service("c"), shadow("b", gateway_ports={80: 20000}), own).specs
    candidates = specs.virtual_hosts[specs.listeners[f"{B}:80"].virtual_host].candidates
    assert [candidate.rule_set for candidate in candidates] == ["virtualservice/default/vs@80"]


# --- endpoints while a Service is captured and released ---------------------------------------------------------------------


def _members(*objects: Obj, captured: bool = True, port: int = 80) -> set[tuple[str, int, bool]]:
    spec: dict[str, Any] = {"selector": {"app": "b", "acmg.io/captured": "true"}} if captured else {"selector": {"app": "b"}}
    specs = _gateway(service("b", **spec), *objects).specs
    return {(member.address, member.port, member.draining) for member in specs.endpoints[f"outbound|{port}||{B}"]}


def _gateway_slice(*endpoints: Obj, name: str = "b-acmg-gateway-1") -> Obj:
    found = endpoint_slice("b", *endpoints, name=name, ports=[{"name": "http", "port": 20000}])
    found["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "acmg.io"
    return found


ONE, TWO = endpoint("10.0.0.1"), endpoint("10.0.0.2")
GATEWAY = endpoint("10.9.0.1")
BOTH = {("10.0.0.1", 8080, False), ("10.0.0.2", 8080, False)}
SHADOW = shadow("b", gateway_ports={80: 20000})

STEPS: list[tuple[str, bool, list[Obj]]] = [
    ("not captured", False, [endpoint_slice("b", ONE, TWO)]),
    ("a shadow without slices", False, [endpoint_slice("b", ONE, TWO), SHADOW]),
    ("a slice of a shadow that is not seen yet", False, [endpoint_slice("b", ONE, TWO), shadow_slice("b", ONE)]),
    ("the shadow is half filled", False, [endpoint_slice("b", ONE, TWO), SHADOW, shadow_slice("b", ONE)]),
    ("the shadow is filled", False, [endpoint_slice("b", ONE, TWO), SHADOW, shadow_slice("b", ONE, TWO)]),
    ("gateways", False, [endpoint_slice("b", ONE, TWO), SHADOW, shadow_slice("b", ONE, TWO), _gateway_slice(GATEWAY)]),
    ("the key", True, [endpoint_slice("b", ONE, TWO), SHADOW, shadow_slice("b", ONE, TWO), _gateway_slice(GATEWAY)]),
    ("own slices half emptied", True, [endpoint_slice("b", TWO), SHADOW, shadow_slice("b", ONE, TWO), _gateway_slice(GATEWAY)]),
    ("own slices empty", True, [endpoint_slice("b", ports=[]), SHADOW, shadow_slice("b", ONE, TWO), _gateway_slice(GATEWAY)]),
    ("own slices gone", True, [SHADOW, shadow_slice("b", ONE, TWO), _gateway_slice(GATEWAY)]),
    ("the shadow is gone, its slice not", False, [endpoint_slice("b", TWO), shadow_slice("b", ONE)]),
    ("the shadow's slices are gone", False, [endpoint_slice("b", ONE, TWO), SHADOW]),
]


@pytest.mark.parametrize(("step", "captured", "objects"), STEPS, ids=[step for step, _, _ in STEPS])
def test_no_step_takes_an_endpoint_away(step: str, captured: bool, objects: list[Obj]) -> None:
    assert _members(*objects, captured=captured) == BOTH, step


def test_usable_in_one_slice_is_usable() -> None:
    leaving = endpoint("10.0.0.1", ready=False, serving=True, terminating=True)
    lost = endpoint("10.0.0.1", ready=False)
    for one, other in ((leaving, ONE), (ONE, leaving), (lost, ONE), (ONE, lost)):
        assert _members(endpoint_slice("b", one), SHADOW, shadow_slice("b", other)) == {("10.0.0.1", 8080, False)}
    assert _members(endpoint_slice("b", leaving), SHADOW, shadow_slice("b", lost)) == {("10.0.0.1", 8080, True)}


def test_a_port_that_was_renamed_keeps_its_endpoints_until_the_shadow_follows() -> None:
    renamed = service("b", ports=[{"name": "http-new", "port": 80}, {"name": "http-alt", "port": 8080}])
    old = [{"name": "http", "port": 80}, {"name": "http-alt", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    for ports in (old, [{"name": "http-new", "port": 80}]):
        found = _gateway(renamed, shadow("b", ports=ports), shadow_slice("b", ONE))
        expected = [8080] if ports is old else []
        assert [member.port for member in found.specs.endpoints[f"outbound|80||{B}"]] == expected
        assert [member.port for member in found.specs.endpoints[f"outbound|8080||{B}"]] == [8090]
        assert codes(found) == ([] if ports is old else [("ACMG008", "default/b", "spec.ports")])


def test_the_family_that_has_endpoints_is_used() -> None:
    six = shadow_slice("b", endpoint("fd00::1"), name="b-acmg-6", addressType="IPv6")
    four = endpoint_slice("b", addressType="IPv4")
    assert _members(four, SHADOW, six) == {("fd00::1", 8080, False)}
    assert _members(endpoint_slice("b", ONE), SHADOW, six) == {("10.0.0.1", 8080, False)}


def test_subsets_of_a_captured_service_are_told_by_the_pods_behind_its_shadow() -> None:
    pods = [
        make("Pod", name, labels={"version": version}, status={"phase": "Running", "podIP": ip})
        for name, version, ip in (("p1", "v1", "10.0.0.1"), ("p2", "v2", "10.0.0.2"))
    ]
    members = shadow_slice("b", endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2", "p2"))
    rule = destination_rule("dr", "b", {"name": "v2", "labels": {"version": "v2"}})
    specs = _gateway(service("b"), SHADOW, members, rule, *pods).specs
    assert [member.address for member in specs.endpoints[f"outbound|80|v2|{B}"]] == ["10.0.0.2"]
