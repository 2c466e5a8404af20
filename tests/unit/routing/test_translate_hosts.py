# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: virtual hosts, candidates, listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import CandidateSpec, ClusterRef, DirectResponseSpec, ListenerSpec, VirtualHostSpec
from tests.unit.routing.objects import Obj, codes, destination_rule, service, to, translated, virtual_service

if TYPE_CHECKING:
    from routing.translate import Translation

FQDN = "b.default.svc.cluster.local"


def _candidates(objects: list[dict[str, object]], host: str = f"{FQDN}:80") -> list[str]:
    found = translated(*objects).specs.virtual_hosts[host].candidates
    ordered = sorted(found, key=lambda candidate: candidate.rank)
    return [candidate.rule_set.removeprefix("virtualservice/").partition("@")[0] for candidate in ordered]


def test_every_service_port_is_a_virtual_host_with_all_aliases() -> None:
    specs = translated(service("b", "other", clusterIP="127.0.0.1", clusterIPs=["127.0.0.1", "::1"])).specs
    assert list(specs.virtual_hosts) == ["b.other.svc.cluster.local:80", "b.other.svc.cluster.local:8080"]
    assert specs.virtual_hosts["b.other.svc.cluster.local:8080"] == VirtualHostSpec(
        name="b.other.svc.cluster.local",
        port=8080,
        domains=("b.other", "b.other.svc", "b.other.svc.cluster.local", "127.0.0.1", "[::1]"),
        short_name="b",
        namespace="other",
        default=ClusterRef(cluster="outbound|8080||b.other.svc.cluster.local"),
    )


def test_the_cluster_domain_is_an_option() -> None:
    specs = translated(service("b"), virtual_service("vs", ["b"]), cluster_domain="mesh.test").specs
    assert specs.virtual_hosts["b.default.svc.mesh.test:80"].candidates


def test_udp_ports_are_left_out() -> None:
    found = translated(service("b", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}]))
    assert found.specs.virtual_hosts == {}
    assert found.specs.clusters == {}


@pytest.mark.parametrize("host", ["b", "B.default.svc.cluster.local.", "*.cluster.local", "*.default.svc.cluster.local"])
def test_a_virtual_service_is_a_candidate_on_every_port_of_the_service(host: str) -> None:
    specs = translated(service("b"), virtual_service("vs", [host])).specs
    for port in (80, 8080):
        (candidate,) = specs.virtual_hosts[f"{FQDN}:{port}"].candidates
        assert candidate.rule_set == f"virtualservice/default/vs@{port}"
        assert candidate.rule_set in specs.rule_sets


def test_a_short_host_belongs_to_the_virtual_services_namespace() -> None:
    objects = [service("b"), service("b", "other"), virtual_service("vs", ["b"], namespace="other")]
    assert _candidates(objects) == []
    assert _candidates(objects, "b.other.svc.cluster.local:80") == ["other/vs"]


@pytest.mark.parametrize("host", ["b.default", "b.default.svc"])
def test_service_dot_namespace_means_the_service_if_it_exists_with_a_warning(host: str) -> None:
    found = translated(service("b"), virtual_service("vs", [host], namespace="other"))
    assert [candidate.rank for candidate in found.specs.virtual_hosts[f"{FQDN}:80"].candidates] == [0]
    assert ("ACMG003", "other/vs", "spec.hosts[0]") in codes(found)
    assert f"{host}:80" not in found.specs.virtual_hosts
    missing = translated(virtual_service("vs", [host], namespace="other"))
    assert list(missing.specs.virtual_hosts) == [f"{host}:80"]
    assert ("ACMG003", "other/vs", "spec.hosts[0]") not in codes(missing)


def test_exact_hosts_beat_longer_wildcards_beat_shorter_ones_whatever_their_age() -> None:
    objects = [
        service("b"),
        virtual_service("short", ["*.cluster.local"], created="2024-01-01"),
        virtual_service("long", ["*.default.svc.cluster.local"], created="2024-01-02"),
        virtual_service("exact", ["b"], created="2024-01-03"),
        virtual_service("all", ["*"], created="2023-01-01", gateways=["acmg-gateway"]),
    ]
    assert _candidates(objects) == ["default/exact", "default/long", "default/short", "default/all"]


def test_of_equal_hosts_the_older_comes_first_then_the_name() -> None:
    objects = [
        service("b"),
        virtual_service("x", ["b"], created="2024-01-03"),
        virtual_service("z", ["b"], created="2024-01-02"),
        virtual_service("y", [FQDN], created="2024-01-02", namespace="other"),
    ]
    assert _candidates(objects) == ["other/y", "default/z", "default/x"]


@pytest.mark.parametrize("hosts", [["b", FQDN], ["b", "*.local"], ["*.local", "b"]])
def test_a_virtual_service_that_covers_a_host_twice_counts_once_by_the_narrower(hosts: list[str]) -> None:
    specs = translated(service("b"), virtual_service("vs", hosts)).specs
    assert specs.virtual_hosts[f"{FQDN}:80"].candidates == (CandidateSpec(rule_set="virtualservice/default/vs@80"),)


def test_without_a_rule_for_the_port_it_is_no_candidate() -> None:
    specs = translated(service("b"), virtual_service("vs", ["b"], {"match": [{"port": 80}], "route": [to("b")]})).specs
    assert specs.virtual_hosts[f"{FQDN}:80"].candidates
    assert specs.virtual_hosts[f"{FQDN}:8080"].candidates == ()


def test_hosts_that_are_no_service_are_served_on_port_80() -> None:
    specs = translated(
        service("b", ports=[{"port": 5000}]),
        virtual_service("vs", ["x.example.com", "fd00::5", "ghost"]),
        virtual_service("wild", ["*.example.com"]),
        virtual_service("empty", ["y.example.org"], {"match": [{"port": 81}], "route": [to("b")]}),
    ).specs
    assert set(specs.virtual_hosts) == {
        f"{FQDN}:5000",
        "x.example.com:80",
        "fd00::5:80",
        "ghost.default.svc.cluster.local:80",
        "*.example.com:80",
    }
    assert specs.virtual_hosts["fd00::5:80"].domains == ("[fd00::5]",)
    found = specs.virtual_hosts["x.example.com:80"]
    assert found.domains == ("x.example.com",)
    assert found.default is None
    # If the exact one has no rule for a caller, the wildcard is next.
    assert [candidate.rule_set for candidate in found.candidates] == [
        "virtualservice/default/vs@80",
        "virtualservice/default/wild@80",
    ]
    assert [candidate.rule_set for candidate in specs.virtual_hosts["*.example.com:80"].candidates] == [
        "virtualservice/default/wild@80",
    ]


def test_an_address_of_a_service_does_not_become_a_host_of_its_own() -> None:
    specs = translated(service("b", clusterIP="10.0.0.1"), virtual_service("vs", ["10.0.0.1"])).specs
    assert set(specs.virtual_hosts) == {f"{FQDN}:80", f"{FQDN}:8080"}


@pytest.mark.parametrize("gateways", [["mesh"], ["acmg-gateway"], ["other/acmg-gateway"], ["ingress", "mesh"], []])
def test_gateways_that_are_ours(gateways: list[str]) -> None:
    assert _candidates([service("b"), virtual_service("vs", ["b"], gateways=gateways)]) == ["default/vs"]


def test_other_gateways_are_not_ours() -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], gateways=["ingress", "x/mesh"]))
    assert found.specs.rule_sets == {}
    assert ("ACMG006", "default/vs", "spec.gateways") in codes(found)
    renamed = translated(service("b"), virtual_service("vs", ["b"], gateways=["x/canal"]), gateway_name="canal")
    assert renamed.specs.rule_sets


def test_a_delegate_is_nowhere_by_itself() -> None:
    found = translated(service("b"), virtual_service("leaf", []))
    assert found.specs.rule_sets == {}
    assert codes(found) == [("ACMG017", "default/leaf", "spec.hosts")]


def test_visibility_goes_with_the_rule_set() -> None:
    specs = translated(
        service("b"),
        virtual_service("public", ["b"], exportTo=["*"]),
        virtual_service("some", ["b"], exportTo=[".", "other"]),
    ).specs
    assert specs.rule_sets["virtualservice/default/public@80"].export_to == ()
    assert specs.rule_sets["virtualservice/default/some@80"].export_to == ("default", "other")
    assert specs.rule_sets["virtualservice/default/some@80"].namespace == "default"


def test_public_virtual_services_for_one_host_conflict() -> None:
    found = translated(
        service("b"),
        virtual_service("old", ["b"], created="2024-01-01"),
        virtual_service("new", [FQDN], created="2024-01-02", namespace="other"),
        virtual_service("private", ["b"], created="2024-01-03", exportTo=["."]),
        virtual_service("wild", ["*.cluster.local"], created="2024-01-03"),
    )
    assert [entry for entry in codes(found) if entry[0] == "IST0109"] == [("IST0109", "other/new", "spec.hosts")]
    (conflict,) = [entry for entry in found.diagnostics if entry.code == "IST0109"]
    assert "default/old" in conflict.message


def _answer(status: int, **match: object) -> dict[str, object]:
    return {"directResponse": {"status": status}, **({"match": [match]} if match else {})}


def _bound(name: str, *http: dict[str, object], **fields: Any) -> Obj:
    """A VirtualService for b bound to this gateway alone."""
    return virtual_service(name, fields.pop("hosts", ["b"]), *http, gateways=["acmg-gateway"], **fields)


def _merged(found: Translation, host: str = f"{FQDN}:80") -> list[list[int]]:
    """Status codes of the rules of each candidate, in order."""
    statuses = []
    for candidate in found.specs.virtual_hosts[host].candidates:
        actions = [rule.action for rule in found.specs.rule_sets[candidate.rule_set].rules]
        statuses.append([action.status for action in actions if isinstance(action, DirectResponseSpec)])
    return statuses


def test_virtual_services_bound_to_the_gateway_are_merged_with_what_matches_everything_last() -> None:
    found = translated(
        service("b"),
        _bound("third", _answer(206, uri={"exact": "/3"}), _answer(207), created="2024-01-03"),
        _bound("first", _answer(201, uri={"exact": "/1"}), _answer(202), created="2024-01-01"),
        _bound("second", _answer(203, uri={"exact": "/2"}), hosts=[FQDN], namespace="other", created="2024-01-02"),
    )
    assert _merged(found) == [[201, 203, 206, 202]]
    assert set(found.specs.rule_sets) == {
        f"virtualservice/default/first+other/second+default/third@{port}" for port in (80, 8080)
    }
    assert codes(found) == [("IST0130", "default/third", "spec.http")]


def test_an_entry_that_matches_everything_is_parted_from_its_rule() -> None:
    rule: Obj = {"match": [{"uri": {"exact": "/1"}}, {}], "directResponse": {"status": 201}}
    found = translated(service("b"), _bound("one", rule), _bound("two", _answer(202, uri={"exact": "/2"})))
    assert _merged(found) == [[201, 202, 201]]


def test_a_virtual_service_without_rules_for_a_port_is_not_merged_there() -> None:
    found = translated(service("b"), _bound("one", _answer(201, port=80)), _bound("two", _answer(202, port=8080)))
    assert _merged(found) == [[201]]
    assert _merged(found, f"{FQDN}:8080") == [[202]]
    nowhere = translated(service("b"), _bound("one", _answer(201, port=1)), _bound("two", _answer(202, port=1)))
    assert _merged(nowhere) == []


def test_merged_ones_are_a_candidate_beside_those_of_the_mesh() -> None:
    found = translated(
        service("b"),
        _bound("one", _answer(201, uri={"exact": "/1"}), created="2024-01-01"),
        virtual_service("mesh", ["b"], _answer(202), created="2024-01-02"),
        _bound("two", _answer(203), created="2024-01-03"),
    )
    assert _merged(found) == [[201, 203], [202]]
    assert [entry[:2] for entry in codes(found)] == [("IST0109", "default/mesh")]


def test_only_those_that_the_same_namespaces_see_are_merged() -> None:
    found = translated(
        service("b"),
        _bound("one", _answer(201), created="2024-01-01"),
        _bound("two", _answer(202), exportTo=["."], created="2024-01-02"),
        _bound("three", _answer(203, uri={"exact": "/"}), exportTo=["default"], created="2024-01-03"),
    )
    assert _merged(found) == [[201], [203, 202]]


def test_a_group_may_be_a_candidate_of_several_hosts() -> None:
    found = translated(
        service("b"),
        _bound("one", _answer(201, uri={"exact": "/1"}), hosts=["b", "*.local"]),
        _bound("two", _answer(202), hosts=["*.local"]),
    )
    assert _merged(found) == [[201], [201, 202]]


def test_variants_by_namespace_of_the_default_route() -> None:
    objects = [service("b"), destination_rule("dr", FQDN, namespace="other")]
    assert translated(*objects).specs.virtual_hosts[f"{FQDN}:80"].default == ClusterRef(
        cluster=f"outbound|80||{FQDN}", by_namespace={"other": f"outbound|80||{FQDN}@other"}
    )


def test_listeners_are_loopback_cluster_ips() -> None:
    specs = translated(
        service("b", clusterIP="127.0.10.1", clusterIPs=["127.0.10.1", "10.0.0.1", "::1"]),
        service("c", clusterIP="10.0.0.2"),
        service("d", clusterIP="None"),
    ).specs
    assert set(specs.listeners) == {f"{FQDN}:80", f"{FQDN}:8080"}
    assert specs.listeners[f"{FQDN}:80"] == ListenerSpec(
        name=f"{FQDN}:80", port=80, binds=(("127.0.10.1", 80), ("::1", 80)), virtual_host=f"{FQDN}:80"
    )


def test_the_shared_listener_has_no_virtual_host_of_its_own() -> None:
    specs = translated(service("b", clusterIP="127.0.0.1"), listeners="none", shared_binds=(("127.0.0.1", 15080),)).specs
    assert specs.listeners == {"shared": ListenerSpec(name="shared", port=0, binds=(("127.0.0.1", 15080),))}


def test_services_may_share_an_address_on_different_ports() -> None:
    found = translated(
        service("b", clusterIP="127.0.0.1", ports=[{"port": 81}]), service("c", clusterIP="127.0.0.1", ports=[{"port": 82}])
    )
    assert len(found.specs.listeners) == 2
    assert codes(found) == []


def test_an_address_and_port_belong_to_the_oldest_service() -> None:
    found = translated(
        service("c", clusterIP="127.0.0.1", created="2024-01-02"),
        service("b", clusterIP="127.0.0.1", created="2024-01-01", ports=[{"port": 80}]),
    )
    other = "c.default.svc.cluster.local"
    assert set(found.specs.listeners) == {f"{FQDN}:80", f"{other}:8080"}
    assert "127.0.0.1" not in found.specs.virtual_hosts[f"{other}:80"].domains
    assert "127.0.0.1" in found.specs.virtual_hosts[f"{other}:8080"].domains
    assert codes(found) == [("ACMG007", "default/c", "spec.clusterIP")]


def test_a_service_may_not_have_the_shared_listeners_address() -> None:
    found = translated(service("b", clusterIP="127.0.0.1"), shared_binds=(("127.0.0.1", 80),))
    assert set(found.specs.listeners) == {"shared", f"{FQDN}:8080"}
    assert codes(found) == [("ACMG007", "default/b", "spec.clusterIP")]
