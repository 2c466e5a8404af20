# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.controller.eligibility import captured_ports, judge, named_services
from tests.unit.controller.objects import make_namespace, make_service, make_virtual_service


def port(name: str = "", protocol: str | None = None, number: int = 80, transport: str = "TCP") -> dict[str, Any]:
    return {"name": name, "port": number, "protocol": transport} | ({"appProtocol": protocol} if protocol else {})


@pytest.mark.parametrize(
    ("entry", "is_captured"),
    [
        (port("http"), True),
        (port("http-web"), True),
        (port("web", "http"), True),
        (port("", "http"), True),
        (port("ws", "kubernetes.io/ws"), True),
        (port("http", "kubernetes.io/h2c"), False),
        (port("http2"), False),
        (port("https"), False),
        (port("web"), False),
        (port("grpc-web"), False),
        (port("http-metrics"), False),
        (port("metrics", "http"), False),
        (port("http", transport="UDP"), False),
    ],
)
def test_only_http_ports_are_captured(entry: dict[str, Any], *, is_captured: bool) -> None:
    assert captured_ports(make_service(ports=[entry])) == ((80,) if is_captured else ())


@pytest.mark.parametrize("excluded", ["http-b", "81", " 7 , 81", "http-b,http-c"])
def test_excluded_ports_are_left_out(excluded: str) -> None:
    service = make_service(
        meta={"annotations": {"acmg.io/exclude-ports": excluded}}, ports=[port("http"), port("http-b", number=81)]
    )
    assert captured_ports(service) == (80,)


@pytest.mark.parametrize(
    ("service", "namespace", "is_named", "answer"),
    [
        ("enabled", "", False, "captured"),
        ("", "enabled", False, "captured"),
        ("", "", True, "captured"),
        ("", "", False, "unasked"),
        ("disabled", "enabled", True, "unasked"),
        ("enabled", "disabled", False, "captured"),
        ("", "disabled", True, "unasked"),
        ("nonsense", "enabled", False, "captured"),
    ],
)
def test_the_nearest_label_decides_who_asks(service: str, namespace: str, *, is_named: bool, answer: str) -> None:
    labels = {"acmg.io/capture": service} if service else {}
    space = make_namespace(capture=namespace) if namespace else make_namespace()
    verdict = judge(make_service(meta={"labels": labels}), space, is_named=is_named, system_namespace="acmg-system")
    assert verdict.answer == answer


def test_a_switched_off_cluster_and_shadows_ask_for_nothing() -> None:
    assert judge(make_service(), None, system_namespace="acmg-system", is_off=True).answer == "unasked"
    shadow = make_service("hello-acmg", meta={"labels": {"acmg.io/shadow": "true", "acmg.io/capture": "enabled"}})
    assert judge(shadow, None, system_namespace="acmg-system").answer == "unasked"
    orphan = make_service("hello-acmg", meta={"ownerReferences": [{"kind": "Service", "name": "hello", "uid": "u"}]})
    assert judge(orphan, None, system_namespace="acmg-system").answer == "unasked"


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (make_service(clusterIP="None"), "headless"),
        (make_service(type="ExternalName"), "ExternalName"),
        (make_service(selector=None), "spec.selector is empty"),
        (make_service(selector={"acmg.io/captured": "true"}), "spec.selector is empty"),
        (make_service(type="NodePort", externalTrafficPolicy="Local"), "spec.externalTrafficPolicy is Local on type NodePort"),
        (make_service(type="LoadBalancer", externalTrafficPolicy="Local"), "externalTrafficPolicy is Local on type LoadBalancer"),
        (make_service(internalTrafficPolicy="Local"), "spec.internalTrafficPolicy is Local"),
        (make_service("dns", "kube-system"), "namespace kube-system are never captured"),
        (make_service("web", "acmg-system"), "namespace acmg-system are never captured"),
        (make_service("kubernetes"), "the API server's own Service"),
        (make_service(ports=[port("db")]), "no port is HTTP"),
        (make_service(ports=[port(f"http-{number}", number=number) for number in range(1, 102)]), "101 ports"),
    ],
)
def test_what_cannot_be_captured_is_refused_with_the_reason(service: Any, reason: str) -> None:
    verdict = judge(service, None, system_namespace="acmg-system")
    assert verdict.answer == "refused"
    assert reason in verdict.reason


@pytest.mark.parametrize("type_", ["NodePort", "LoadBalancer"])
def test_other_types_are_captured_with_the_policy_cluster(type_: str) -> None:
    service = make_service(type=type_, externalTrafficPolicy="Cluster")
    assert judge(service, None, system_namespace="acmg-system") == ("captured", "", (80,))


def test_a_virtual_service_names_its_hosts_destinations_mirrors_and_those_of_its_delegates() -> None:
    found = make_virtual_service(
        gateways=["acmg-gateway"],
        hosts=["a", "b.shop", "c.shop.svc.cluster.local.", "*", "*.shop.svc.cluster.local", "www.example.com.org"],
        http=[
            {"route": [{"destination": {"host": "d"}}], "mirror": {"host": "e"}, "mirrors": [{"destination": {"host": "f"}}]},
            {"delegate": {"name": "rest", "namespace": "other"}},
        ],
    )
    assert found.delegates == (("other", "rest"),)
    delegate = make_virtual_service("rest", "other", http=[{"route": [{"destination": {"host": "g"}}]}])
    own = {("default", name) for name in "adef"}
    assert named_services(found, [delegate]) == own | {("shop", "b"), ("shop", "c"), ("other", "g")}


@pytest.mark.parametrize("gateways", [None, [], ["mesh"], ["other-gateway"]])
def test_a_virtual_service_that_is_not_bound_to_the_gateways_names_nothing(gateways: Any) -> None:
    assert named_services(make_virtual_service(gateways=gateways, hosts=["a"])) == frozenset()
