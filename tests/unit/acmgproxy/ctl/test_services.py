# SPDX-License-Identifier: Apache-2.0
"""Facts about what is said of a Service."""

from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.ctl.services import gateway_ports, judged, named, port_uses, state_of, with_label
from acmgproxy.ctl.traces import Traces
from tests.unit.acmgproxy.ctl.objects import namespace, service, slice_of, virtual_service

KEY = ("default", "hello")
ASKED = {"acmg.io/capture": "enabled"}


def status(text: str) -> dict[str, str]:
    return {"acmg.io/status": text}


def test_a_label_is_tried_before_it_is_set() -> None:
    assert judged(service(), namespace()).answer == "unasked"
    assert judged(with_label(service(), "enabled"), namespace()).answer == "captured"
    assert judged(with_label(service(labels=ASKED), None), namespace(capture="enabled")).answer == "captured"
    assert judged(with_label(service(labels=ASKED), "disabled"), namespace(capture="enabled")).answer == "unasked"


def test_ports_that_are_not_http_stay_direct() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "grpc", "port": 81}, {"port": 82, "appProtocol": "http", "name": "x"}]
    assert [(use.port, use.through_gateway) for use in port_uses(service(ports=ports))] == [(80, True), (81, False), (82, True)]
    assert [str(use) for use in port_uses(service(ports=[{"name": "http", "port": 80}]))] == ["80 (http)"]


def test_virtual_services_name_services_and_unreadable_ones_are_passed_over() -> None:
    broken = {"metadata": {"name": "b", "namespace": "default"}, "spec": {"hosts": 3}}
    found = named([broken, virtual_service("v", "hello"), virtual_service("w", "other", gateways=("mesh",))])
    assert found == {KEY: "default/v"}


def test_a_shadow_that_says_nothing_sensible_has_no_ports() -> None:
    assert gateway_ports(None) == {}
    assert gateway_ports(service(annotations={"acmg.io/gateway-ports": "{}x"})) == {}
    assert gateway_ports(service(annotations={"acmg.io/gateway-ports": '{"5000":20001}'})) == {5000: 20001}


@pytest.mark.parametrize(
    ("found", "slices", "state", "reason"),
    [
        (service(labels=ASKED, captured=True, annotations=status("captured")), [], "captured", ""),
        (service(labels=ASKED, captured=True, annotations=status("captured; a b")), [], "captured", "a b"),
        (service(labels=ASKED, annotations=status("pending: no gateway is ready")), [], "pending", "no gateway is ready"),
        (service(labels=ASKED), [], "pending", "the controller has not looked at it yet"),
        (service(labels=ASKED, annotations=status("refused: rename it")), [], "refused", "rename it"),
        (service(captured=True), [], "releasing", ""),
        (service(), [slice_of("hello", ours="x")], "releasing", "the cluster has not yet listed all its endpoints again"),
        (service(), [], "direct", ""),
    ],
)
def test_where_a_service_stands_is_read_off_the_cluster(found: Any, slices: list[Any], state: str, reason: str) -> None:
    stands = state_of(found, judged(found, namespace()), Traces(key=KEY, service=found, slices=slices))
    assert stands == (state, reason, {})


def test_a_service_that_cannot_be_captured_says_why_even_without_a_controller() -> None:
    headless = service(labels=ASKED, cluster_ip="None")
    stands = state_of(headless, judged(headless, namespace()), None)
    assert stands.state == "refused"
    assert "headless" in stands.reason
