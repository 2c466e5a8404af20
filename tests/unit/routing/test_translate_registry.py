# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: aliases, pods of headless Services, hosts of ServiceEntries."""

from __future__ import annotations

from typing import Any

import pytest

from routing.names import CLUSTER_DOMAIN
from routing.specs import ClusterRef, EndpointSpec, ForwardSpec, IdentitySpec, ListenerSpec, Specs, VirtualHostSpec
from routing.store import Store
from routing.translate import NamedEndpoint, Translation, resolved
from routing.translate._candidates import Candidates
from routing.translate._context import Context, TranslateOptions
from routing.translate._registry import Registry
from tests.unit.routing.objects import (
    Obj,
    codes,
    destination_rule,
    endpoint,
    endpoint_slice,
    pod,
    rules_of,
    service,
    service_entry,
    subset,
    to,
    translated,
    virtual_service,
)

B = "b.default.svc.cluster.local"
ALIAS = "alias.default.svc.cluster.local"


def _alias(target: str, name: str = "alias", **spec: Any) -> Obj:
    return service(name, type="ExternalName", externalName=target, ports=spec.pop("ports", []), **spec)


def _defaults(found: Translation) -> dict[str, str]:
    return {key: host.default.cluster for key, host in found.specs.virtual_hosts.items() if host.default is not None}


# Aliases.


def test_an_alias_of_a_service_leads_to_its_clusters_on_its_ports() -> None:
    found = translated(service("b"), _alias(f"{B.upper()}."), destination_rule("dr", B, namespace="other"))
    assert found.specs.virtual_hosts[f"{ALIAS}:80"] == VirtualHostSpec(
        name=ALIAS,
        port=80,
        domains=("alias.default", "alias.default.svc", ALIAS),
        short_name="alias",
        namespace="default",
        default=ClusterRef(cluster=f"outbound|80||{B}", by_namespace={"other": f"outbound|80||{B}@other"}),
    )
    assert _defaults(found)[f"{ALIAS}:8080"] == f"outbound|8080||{B}"
    assert not any(ALIAS in cluster for cluster in found.specs.clusters)
    assert codes(found) == []


def test_rules_of_the_target_do_not_hold_for_the_alias_nor_the_other_way_round() -> None:
    found = translated(
        service("b"), _alias(B), virtual_service("target", ["b"]), virtual_service("own", ["alias"], created="2024-01-02")
    )
    assert [entry.rule_set for entry in found.specs.virtual_hosts[f"{ALIAS}:80"].candidates] == ["virtualservice/default/own@80"]
    assert [entry.rule_set for entry in found.specs.virtual_hosts[f"{B}:80"].candidates] == ["virtualservice/default/target@80"]


def test_an_alias_as_destination_means_its_target_with_its_subsets() -> None:
    found = translated(
        service("b"),
        _alias(B),
        destination_rule("dr", "b", subset("v1")),
        virtual_service("vs", ["b"], {"route": [to("alias", "v1")]}),
    )
    (rule,) = rules_of(found)
    assert isinstance(rule.action, ForwardSpec)
    assert rule.action.clusters == (ClusterRef(cluster=f"outbound|80|v1|{B}"),)
    assert codes(found) == []


def test_an_alias_of_an_alias() -> None:
    found = translated(service("b"), _alias(ALIAS, "again"), _alias(B))
    assert _defaults(found)["again.default.svc.cluster.local:80"] == f"outbound|80||{B}"


def test_aliases_in_a_circle_lead_nowhere() -> None:
    found = translated(_alias(ALIAS, "again"), _alias("again.default.svc.cluster.local"))
    assert found.specs.virtual_hosts == {}
    assert codes(found) == [("ACMG004", f"default/{name}", "spec.externalName") for name in ("again", "alias")]


def test_ports_of_an_alias_count_before_its_targets() -> None:
    found = translated(service("b"), _alias(B, ports=[{"port": 8080}, {"port": 81}]))
    assert set(found.specs.virtual_hosts) == {f"{B}:80", f"{B}:8080", f"{ALIAS}:8080", f"{ALIAS}:81"}
    assert codes(found) == [("ACMG004", "default/alias", "spec.ports")]
    single = translated(service("b", ports=[{"port": 5000}]), _alias(B, ports=[{"port": 80}]))
    assert _defaults(single)[f"{ALIAS}:80"] == f"outbound|5000||{B}"
    assert codes(single) == []


def test_an_alias_of_something_outside_is_looked_up_in_dns() -> None:
    found = translated(
        _alias("x.example.com"), destination_rule("dr", "alias", trafficPolicy={"loadBalancer": {"simple": "RANDOM"}})
    )
    cluster = f"outbound|80||{ALIAS}"
    assert _defaults(found) == {f"{ALIAS}:80": cluster}
    assert found.specs.endpoints == {cluster: ()}
    assert found.specs.clusters[cluster].balancer == "RANDOM"
    assert found.names == {cluster: (NamedEndpoint("x.example.com", EndpointSpec(address="", port=80)),)}
    assert resolved(found.names[cluster], {"x.example.com": ("10.0.0.2", "10.0.0.1")}) == (
        EndpointSpec(address="10.0.0.2", port=80),
        EndpointSpec(address="10.0.0.1", port=80),
    )
    assert resolved(found.names[cluster], {}) == ()
    assert codes(found) == []


def test_an_alias_of_an_address_and_one_of_nothing() -> None:
    found = translated(_alias("10.0.0.1", ports=[{"port": 81}]), _alias("", "empty"))
    assert found.specs.endpoints == {f"outbound|81||{ALIAS}": (EndpointSpec(address="10.0.0.1", port=81),)}
    assert found.names == {}


def test_an_alias_of_a_service_that_is_not_there() -> None:
    found = translated(_alias(B))
    assert codes(found) == [("ACMG004", "default/alias", "spec.externalName")]
    assert list(found.names) == [f"outbound|80||{ALIAS}"]


def test_rules_for_an_alias_are_pointed_to_its_target() -> None:
    found = translated(service("b"), _alias(B), destination_rule("dr", "alias"))
    assert codes(found) == [("IST0174", "default/dr", "spec.host")]
    assert B in found.diagnostics[0].message


def test_a_destinations_port_that_an_alias_lacks() -> None:
    route = {"route": [to("alias", port=81)]}
    found = translated(service("b"), _alias("x.test"), virtual_service("vs", ["b"], route))
    assert codes(found) == [("IST0101", "default/vs", "spec.http[0].route[0].destination.port.number")]


# Headless Services.


def _stateful(*more: Obj) -> list[Obj]:
    owner = [{"kind": "StatefulSet", "name": "db", "controller": True}]
    return [
        service("db", clusterIP="None", ports=[{"name": "http", "port": 80}]),
        pod("db-0", "10.0.0.1", ownerReferences=owner, labels={"app": "db"}),
        pod("db-1", "10.0.0.2", ownerReferences=owner, labels={"app": "db"}),
        endpoint_slice("db", endpoint("10.0.0.1", "db-0", hostname="db-0"), endpoint("10.0.0.2", "db-1", ready=False)),
        *more,
    ]


DB = f"db.default.svc.{CLUSTER_DOMAIN}"


def test_every_pod_of_a_headless_service_is_a_host_with_one_endpoint() -> None:
    found = translated(*_stateful())
    assert found.specs.listeners == {}
    assert {host: spec.domains for host, spec in found.specs.virtual_hosts.items()} == {
        f"{DB}:80": ("db.default", "db.default.svc", DB),
        f"db-0.{DB}:80": ("db-0.db.default", "db-0.db.default.svc", f"db-0.{DB}"),
        f"db-1.{DB}:80": ("db-1.db.default", "db-1.db.default.svc", f"db-1.{DB}"),
    }
    assert found.specs.virtual_hosts[f"db-0.{DB}:80"].short_name == "db-0.db"
    assert _defaults(found)[f"db-0.{DB}:80"] == f"outbound|80||db-0.{DB}"
    members = {name: [member.address for member in found] for name, found in found.specs.endpoints.items()}
    assert members == {f"outbound|80||{DB}": ["10.0.0.1"], f"outbound|80||db-0.{DB}": ["10.0.0.1"], f"outbound|80||db-1.{DB}": []}
    assert found.specs.clusters[f"outbound|80||db-0.{DB}"].service == DB
    assert codes(found) == []


def test_pods_have_the_policy_of_their_service_but_no_subsets() -> None:
    policy = {"loadBalancer": {"simple": "RANDOM"}}
    rules = [
        destination_rule("dr", "db", subset("v1"), trafficPolicy=policy),
        destination_rule("own", DB, namespace="other"),
        destination_rule("pod", f"db-0.{DB}"),
    ]
    found = translated(*_stateful(*rules))
    assert found.specs.clusters[f"outbound|80||db-0.{DB}"].balancer == "RANDOM"
    assert f"outbound|80||db-0.{DB}@other" in found.specs.clusters
    assert not any("|v1|db-0" in name for name in found.specs.clusters)
    assert codes(found) == [("IST0174", "default/pod", "spec.host")]


@pytest.mark.parametrize(
    ("host", "code"),
    [(f"db-0.{DB}", ""), ("db-0.db", "ACMG003"), ("db-0.db.default", "ACMG003"), ("db-0.db.default.svc", "ACMG003")],
)
def test_a_pod_as_destination(host: str, code: str) -> None:
    found = translated(*_stateful(service("b"), virtual_service("vs", ["b"], {"route": [to(host)]})))
    (rule,) = rules_of(found)
    assert isinstance(rule.action, ForwardSpec)
    assert rule.action.clusters[0].cluster == f"outbound|80||db-0.{DB}"
    assert [entry[0] for entry in codes(found)] == ([code] if code else [])


def test_a_subset_of_a_pod() -> None:
    found = translated(*_stateful(service("b"), virtual_service("vs", ["b"], {"route": [to(f"db-0.{DB}", "v1")]})))
    assert codes(found) == [("IST0101", "default/vs", "spec.http[0].route[0].destination.subset")]


def test_a_virtual_service_may_own_a_pods_host() -> None:
    found = translated(*_stateful(virtual_service("vs", [f"db-0.{DB}"], {"route": [to("db")]})))
    assert [entry.rule_set for entry in found.specs.virtual_hosts[f"db-0.{DB}:80"].candidates] == ["virtualservice/default/vs@80"]
    assert len(found.specs.virtual_hosts) == 3


def test_pods_of_deployments_and_strangers_have_no_names() -> None:
    replica = pod("db-2", "10.0.0.3", ownerReferences=[{"kind": "ReplicaSet", "name": "x"}])
    single = pod("db-3", "10.0.0.4")
    more = endpoint_slice(
        "db",
        endpoint("10.0.0.3", "db-2"),
        endpoint("10.0.0.4", "db-3"),
        endpoint("10.0.0.5"),
        endpoint("10.0.0.6", "db-9"),
        name="db-2",
    )
    found = translated(*_stateful(replica, single, more))
    assert {host.split(".")[0] for host in found.specs.virtual_hosts} == {"db", "db-0", "db-1", "db-3"}


# ServiceEntries.


STATIC: Obj = {"resolution": "STATIC", "endpoints": [{"address": "10.0.0.1"}]}


def test_a_host_of_a_service_entry_with_static_endpoints() -> None:
    entry = service_entry(
        "se",
        ["x.test"],
        ports=[
            {"number": 80, "name": "http", "protocol": "http"},
            {"number": 81, "name": "alt", "protocol": "HTTP", "targetPort": 9081},
            {"number": 443, "name": "tls", "protocol": "TLS"},
        ],
        addresses=["127.0.9.1", "fd00::9", "10.0.0.0/8"],
        resolution="STATIC",
        endpoints=[
            {"address": "10.0.0.1", "weight": 3, "locality": "r/z", "labels": {"app": "x", "version": "v1"}},
            {"address": "10.0.0.2", "ports": {"http": 9080}, "serviceAccount": "sa"},
            {"address": "10.0.0.2", "ports": {"http": 9080}},
        ],
    )
    found = translated(entry, destination_rule("dr", "x.test", subset("v1", version="v1")))
    specs = found.specs
    assert specs.virtual_hosts["x.test:80"] == VirtualHostSpec(
        name="x.test",
        port=80,
        domains=("x.test", "127.0.9.1", "[fd00::9]"),
        namespace="default",
        default=ClusterRef(cluster="outbound|80||x.test"),
    )
    assert specs.listeners["x.test:81"] == ListenerSpec(
        name="x.test:81", port=81, binds=(("127.0.9.1", 81),), virtual_host="x.test:81"
    )
    one, two = specs.endpoints["outbound|80||x.test"]
    assert (one.address, one.port, one.weight, one.locality) == ("10.0.0.1", 80, 3, "r/z")
    assert (two.address, two.port, two.weight) == ("10.0.0.2", 9080, 1)
    assert specs.identities[one.identity] == IdentitySpec(
        namespace="default",
        labels={"app": "x", "version": "v1"},
        service_account="default",
        workload="x",
        app="x",
        version="v1",
        canonical_service="x",
        canonical_revision="v1",
    )
    assert specs.identities[two.identity].service_account == "sa"
    assert [member.port for member in specs.endpoints["outbound|81||x.test"]] == [9081, 9081]
    assert specs.endpoints["outbound|80|v1|x.test"] == (one,)
    cluster = specs.clusters["outbound|80|v1|x.test"]
    assert (cluster.service, cluster.service_name, cluster.service_namespace) == ("x.test", "x.test", "default")
    assert codes(found) == [("ACMG020", "default/se", "spec.ports[2].protocol")]


def test_dns_endpoints_of_a_service_entry() -> None:
    endpoints = [{"address": "y.test", "weight": 2}, {"address": "10.0.0.1"}, {"address": "z.test", "labels": {"version": "v1"}}]
    found = translated(
        service_entry("se", ["x.test"], resolution="DNS", endpoints=endpoints),
        destination_rule("dr", "x.test", subset("v1", version="v1")),
    )
    name = "outbound|80||x.test"
    assert [member.address for member in found.specs.endpoints[name]] == ["10.0.0.1"]
    assert [entry.name for entry in found.names[name]] == ["y.test", "z.test"]
    assert [entry.name for entry in found.names["outbound|80|v1|x.test"]] == ["z.test"]
    answers = {"y.test": ("10.0.0.7", "10.0.0.8"), "z.test": ("10.0.0.8",)}
    assert [(member.address, member.weight) for member in resolved(found.names[name], answers)] == [
        ("10.0.0.7", 2),
        ("10.0.0.8", 2),
    ]
    assert codes(found) == []


@pytest.mark.parametrize("resolution", ["DNS", "NONE", "DYNAMIC_DNS", "DNS_ROUND_ROBIN"])
def test_a_host_without_endpoints_is_its_own_name(resolution: str) -> None:
    found = translated(service_entry("se", ["x.test"], resolution=resolution))
    assert [entry.name for entry in found.names["outbound|80||x.test"]] == ["x.test"]


def test_wildcard_hosts() -> None:
    found = translated(service_entry("se", ["*.x.test"], **STATIC), service_entry("none", ["*.y.test"]))
    assert found.specs.virtual_hosts["*.x.test:80"].domains == ("*.x.test",)
    assert [member.address for member in found.specs.endpoints["outbound|80||*.x.test"]] == ["10.0.0.1"]
    assert found.specs.endpoints["outbound|80||*.y.test"] == ()
    assert found.names == {}


def test_rules_and_routes_may_name_a_service_entrys_host() -> None:
    policy = {"loadBalancer": {"simple": "RANDOM"}}
    found = translated(
        service("b"),
        service_entry("se", ["api.x.test", "*.w.test"], **STATIC),
        destination_rule("dr", "API.x.test", trafficPolicy=policy, namespace="other"),
        destination_rule("wild", "*.x.test", trafficPolicy=policy),
        destination_rule("same", "*.w.test", trafficPolicy=policy),
        virtual_service("vs", ["api.x.test"], {"route": [to("api.x.test"), to("b", weight=1)]}),
    )
    name = "outbound|80||api.x.test"
    assert found.specs.clusters[name].balancer == "RANDOM"
    assert found.specs.clusters["outbound|80||*.w.test"].balancer == "RANDOM"
    assert f"{name}@other" in found.specs.clusters
    assert found.specs.virtual_hosts["api.x.test:80"].candidates
    assert codes(found) == []


def test_a_rule_for_a_similar_name_does_not_hold() -> None:
    policy = {"loadBalancer": {"simple": "RANDOM"}}
    found = translated(service_entry("se", ["x.y.test"], **STATIC), destination_rule("dr", "x.y.org", trafficPolicy=policy))
    assert found.specs.clusters["outbound|80||x.y.test"].balancer == "LEAST_REQUEST"
    assert codes(found) == [("IST0174", "default/dr", "spec.host")]


def test_pods_selected_by_a_service_entry() -> None:
    found = translated(
        service_entry("se", ["x.test"], resolution="STATIC", workloadSelector={"labels": {"app": "x"}}),
        pod(
            "p2",
            "10.0.0.2",
            labels={"app": "x", "topology.kubernetes.io/zone": "z"},
            conditions=[{"type": "Ready", "status": "True"}],
        ),
        pod("p1", "10.0.0.1", labels={"app": "x", "version": "v1"}, uid="u"),
        pod("unready", "10.0.0.3", labels={"app": "x"}, conditions=[{"type": "x"}, {"type": "Ready", "status": "False"}]),
        pod("failed", "10.0.0.4", labels={"app": "x"}, phase="Failed"),
        pod("leaving", "10.0.0.5", labels={"app": "x"}, deletionTimestamp="2024-01-01T00:00:00Z"),
        pod("nowhere", "", labels={"app": "x"}),
        pod("elsewhere", "10.0.0.6", "other", labels={"app": "x"}),
        pod("other", "10.0.0.7", labels={"app": "y"}),
    )
    members = found.specs.endpoints["outbound|80||x.test"]
    assert [(member.address, member.uid, member.locality) for member in members] == [
        ("10.0.0.1", "u", ""),
        ("10.0.0.2", "", "/z"),
    ]
    assert {member.identity for member in members} <= set(found.specs.identities)


def test_entries_share_a_host_by_ports_and_the_older_goes_first() -> None:
    def port(number: int) -> Obj:
        return {"number": number, "name": f"p{number}", "protocol": "HTTP"}

    found = translated(
        service_entry("new", ["x.test"], created="2024-01-02", ports=[port(80), port(81)], **STATIC),
        service_entry("old", ["x.test"], created="2024-01-01", ports=[port(80)], resolution="DNS"),
    )
    assert set(found.specs.virtual_hosts) == {"x.test:80", "x.test:81"}
    assert list(found.names) == ["outbound|80||x.test"]
    assert [member.address for member in found.specs.endpoints["outbound|81||x.test"]] == ["10.0.0.1"]
    assert codes(found) == [("ACMG019", "default/new", "spec.hosts[0]")]


@pytest.mark.parametrize("host", [B, "b.default", ALIAS])
def test_a_service_goes_before_a_service_entry(host: str) -> None:
    found = translated(service("b"), _alias("x.test"), service_entry("se", [host, "legacy"], **STATIC))
    assert {key for key in found.specs.virtual_hosts if key.startswith("legacy")} == {"legacy:80"}
    assert [entry for entry in codes(found) if entry[1] == "default/se"] == [("ACMG019", "default/se", "spec.hosts[0]")]


def test_callers_that_an_entry_is_not_exported_to_find_no_cluster() -> None:
    found = translated(
        service_entry("se", ["x.test"], exportTo=[".", "other"], **STATIC),
        destination_rule("dr", "x.test", namespace="other"),
    )
    default = found.specs.virtual_hosts["x.test:80"].default
    assert default is not None
    assert default.cluster not in found.specs.clusters
    assert default.by_namespace == {"default": "outbound|80||x.test", "other": "outbound|80||x.test@other"}
    hidden = translated(service_entry("se", ["x.test"], exportTo=["~"], **STATIC)).specs.virtual_hosts["x.test:80"].default
    assert hidden is not None
    assert hidden.by_namespace == {}


def test_addresses_of_entries() -> None:
    entries = [
        service_entry("one", ["x.test"], addresses=["127.0.0.7"], created="2024-01-01", **STATIC),
        service_entry("two", ["y.test"], addresses=["127.0.0.7", "127.0.0.8"], created="2024-01-02", **STATIC),
        service_entry("both", ["v.test", "w.test"], addresses=["127.0.0.9"], created="2024-01-03", **STATIC),
    ]
    found = translated(*entries, shared_binds=(("127.0.0.8", 80),))
    assert set(found.specs.listeners) == {"shared", "x.test:80"}
    assert found.specs.virtual_hosts["v.test:80"].domains == ("v.test",)
    assert codes(found) == [
        ("ACMG007", "default/two", "spec.addresses"),
        ("ACMG007", "default/two", "spec.addresses"),
        ("ACMG014", "default/both", "spec.addresses"),
    ]


def test_an_entry_without_a_port_that_is_served_is_known_but_nowhere() -> None:
    entry = service_entry("se", ["x.test"], ports=[{"number": 443, "name": "https", "protocol": "HTTPS"}], **STATIC)
    found = translated(entry, virtual_service("vs", ["x.test"], {"directResponse": {"status": 200}}))
    assert found.specs.virtual_hosts == {}
    assert codes(found) == [("ACMG020", "default/se", "spec.ports[0].protocol")]


def test_what_holds_hosts_shows_how_many() -> None:
    context = Context(Store(), TranslateOptions())
    assert repr(context.registry) == "<Registry 0 hosts, 0 pods, 0 aliases>"
    assert repr(Candidates(context, Specs())) == "<Candidates for 0 host patterns>"
    assert "x" not in Registry(Store(), CLUSTER_DOMAIN, context.reporter.report)


def test_an_entry_named_like_an_alias_in_short_goes_last() -> None:
    alias = service("b", "m", type="ExternalName", externalName="c.default.svc.cluster.local", ports=[])
    found = translated(service("c"), alias, service_entry("e", ["b.m"], resolution="STATIC", endpoints=[{"address": "10.0.0.1"}]))
    assert codes(found)[0] == ("ACMG019", "default/e", "spec.hosts[0]")
    assert "b.m:80" not in found.specs.virtual_hosts
