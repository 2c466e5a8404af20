# SPDX-License-Identifier: Apache-2.0
"""The rules of the end-to-end tests' kube-proxy, as the documents of Kubernetes have them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.rules import Destination, Endpoint, destinations, empty_table, script

ADDRESS = "10.96.0.1"
HTTP = Destination(ADDRESS, "tcp", 80)


def _service(*ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s", "namespace": "n"}, "spec": {"clusterIP": ADDRESS, "ports": list(ports)} | spec}


def _slice(*endpoints: dict[str, Any], service: str = "s", ports: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    piece = {
        "metadata": {"name": "any", "namespace": "n", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": list(ports) or [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    }
    return piece | more


def _endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def _leads_to(*slices: dict[str, Any]) -> list[str]:
    table = destinations([_service({"name": "http", "port": 80})], slices)
    return [endpoint.address for endpoint in table.get(HTTP, ())]


def test_all_slices_of_a_service_count_together() -> None:
    assert _leads_to(_slice(_endpoint("1.1.1.1", ready=True)), _slice(_endpoint("1.1.1.2", ready=True))) == ["1.1.1.1", "1.1.1.2"]


def test_slices_of_other_services_do_not_count() -> None:
    assert _leads_to(_slice(_endpoint("1.1.1.1", ready=True), service="t")) == []


def test_slices_of_other_address_families_do_not_count() -> None:
    assert _leads_to(_slice(_endpoint("fd00::1", ready=True), addressType="IPv6")) == []


def test_an_endpoint_without_conditions_is_ready() -> None:
    assert _leads_to(_slice({"addresses": ["1.1.1.1"]})) == ["1.1.1.1"]


def test_leaving_endpoints_are_used_only_without_ready_ones() -> None:
    leaving = _endpoint("1.1.1.1", ready=False, serving=True, terminating=True)
    assert _leads_to(_slice(leaving)) == ["1.1.1.1"]
    assert _leads_to(_slice(leaving), _slice(_endpoint("1.1.1.2", ready=True))) == ["1.1.1.2"]


@pytest.mark.parametrize("conditions", [{"serving": False, "terminating": True}, {"serving": True, "terminating": False}])
def test_other_endpoints_that_are_not_ready_are_never_used(conditions: dict[str, bool]) -> None:
    assert _leads_to(_slice(_endpoint("1.1.1.1", ready=False, **conditions))) == []


def test_ports_belong_together_by_name_and_protocol() -> None:
    service = _service({"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "a", "port": 82, "protocol": "UDP"})
    ports = ({"name": "b", "port": 9001}, {"name": "a", "port": 9000})
    table = destinations([service], [_slice(_endpoint("1.1.1.1", ready=True), ports=ports)])
    assert table == {HTTP: (Endpoint("1.1.1.1", 9000),), Destination(ADDRESS, "tcp", 81): (Endpoint("1.1.1.1", 9001),)}


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName"}])
def test_services_without_an_address_have_no_rules(spec: dict[str, str]) -> None:
    assert destinations([_service({"name": "http", "port": 80}, **spec)], [_slice(_endpoint("1.1.1.1", ready=True))]) == {}


def test_nothing_changed_needs_no_script() -> None:
    table = {HTTP: (Endpoint("1.1.1.1", 80),)}
    assert not script(table, table)


def test_a_change_replaces_the_rule_and_keeps_the_map() -> None:
    before, after = {HTTP: (Endpoint("1.1.1.1", 80),)}, {HTTP: (Endpoint("1.1.1.2", 80), Endpoint("1.1.1.3", 81))}
    assert script(before, after).splitlines() == [
        "flush chain ip kube-proxy to-10.96.0.1-tcp-80",
        "add rule ip kube-proxy to-10.96.0.1-tcp-80 meta l4proto tcp"
        " dnat ip to numgen random mod 2 map { 0 : 1.1.1.2 . 80, 1 : 1.1.1.3 . 81 }",
    ]


def test_a_destination_that_goes_leaves_nothing_behind() -> None:
    there = {HTTP: (Endpoint("1.1.1.1", 80),)}
    added, removed = script({}, there), script(there, {})
    assert "add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 : goto to-10.96.0.1-tcp-80 }" in added
    assert removed.splitlines() == [
        "delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 }",
        "delete chain ip kube-proxy to-10.96.0.1-tcp-80",
    ]


def test_addresses_that_lead_nowhere_are_refused() -> None:
    assert "ip daddr 10.96.0.0/16 ct state new reject" in empty_table()
