# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from typing import Any

import pytest

from routing.regex import RegexError
from routing.specs import (
    CandidateSpec,
    ClusterRef,
    HashSpec,
    IdentitySpec,
    LocalitySpec,
    MatchSpec,
    MirrorSpec,
    OutlierSpec,
    SourceMatch,
)
from routing.table import RouteTable
from routing.table import table as table_module
from tests.unit.routing.table_kit import (
    HOST,
    KEY,
    Head,
    cluster,
    diff,
    endpoint,
    exact,
    forward,
    header,
    listener,
    path,
    route_name,
    rule,
    rule_set,
    table_of,
    virtual_host,
)

WEB_NS = IdentitySpec(namespace="default")
OTHER_NS = IdentitySpec(namespace="other")
SHARED = {"shared": listener("shared", port=0, virtual_host="")}


def service(name: str, port: int = 80, namespace: str = "default", **options: Any) -> dict[str, Any]:
    """A virtual host with a default cluster of its own, which tells which host was chosen."""
    fqdn = f"{name}.{namespace}.svc"
    key = f"{fqdn}:{port}"
    spec = virtual_host(name=fqdn, port=port, namespace=namespace, short_name=name, default=ClusterRef(cluster=key), **options)
    return {key: spec}


def chosen(table: RouteTable, listener_name: str, authority: str, address: str = "") -> str | None:
    route = table.match(table.listeners[listener_name], Head(authority=authority.encode()), table.caller(address))
    return route.destinations[0].cluster_name if route is not None else None


def gateway(*services: dict[str, Any], **sections: Any) -> RouteTable:
    hosts: dict[str, Any] = {}
    for entry in services:
        hosts |= entry
    listeners = {key: listener(key, port=spec.port, virtual_host=key) for key, spec in hosts.items() if spec.namespace}
    identities, callers = {"d": WEB_NS, "o": OTHER_NS}, {"10.0.0.1": "d", "10.0.0.2": "o"}
    table = RouteTable()
    table.apply(diff(listeners=listeners | SHARED, virtual_hosts=hosts, identities=identities, callers=callers, **sections))
    return table


# Which host.


def test_the_host_value_chooses_among_the_hosts_of_the_port() -> None:
    table = gateway(service("a"), service("b"), service("c", 8080))
    assert chosen(table, "a.default.svc:80", "b.default.svc") == "b.default.svc:80"
    assert chosen(table, "a.default.svc:80", "B.Default.svc.:80") == "b.default.svc:80"
    assert chosen(table, "a.default.svc:80", "b.default.svc:9999") == "b.default.svc:80"


@pytest.mark.parametrize("authority", ["", "c.default.svc", "nosuch", "127.0.0.1:80"])
def test_any_other_host_value_means_the_connected_service(authority: str) -> None:
    table = gateway(service("a"), service("b"), service("c", 8080))
    assert chosen(table, "a.default.svc:80", authority) == "a.default.svc:80"


def test_a_short_name_is_valid_only_in_its_namespace() -> None:
    table = gateway(service("a"), service("b"), service("b", namespace="other"))
    assert chosen(table, "a.default.svc:80", "b", "10.0.0.1") == "b.default.svc:80"
    assert chosen(table, "a.default.svc:80", "b:80", "10.0.0.2") == "b.other.svc:80"
    assert chosen(table, "a.default.svc:80", "b", "10.9.9.9") == "a.default.svc:80"
    assert chosen(table, "a.default.svc:80", "a", "10.0.0.2") == "a.default.svc:80"


def test_a_listener_whose_host_does_not_exist_finds_nothing() -> None:
    table = table_of(virtual_hosts={})
    assert route_name(table, Head()) is None


def test_the_shared_listener_takes_the_port_from_the_host_value() -> None:
    table = gateway(service("a"), service("a", 8080), service("b", 5000))
    assert chosen(table, "shared", "a.default.svc") == "a.default.svc:80"
    assert chosen(table, "shared", "a.default.svc:8080") == "a.default.svc:8080"
    assert chosen(table, "shared", "b.default.svc") == "b.default.svc:5000"
    assert chosen(table, "shared", "b.default.svc:15080") == "b.default.svc:5000"
    assert chosen(table, "shared", "a.default.svc:15080") is None
    assert chosen(table, "shared", "nosuch") is None
    assert chosen(table, "shared", "") is None


def test_short_names_on_the_shared_listener() -> None:
    table = gateway(
        service("a"), service("a", 8080), service("b", 5000), service("b", 5001, "other"), service("c", 1), service("c", 2)
    )
    assert chosen(table, "shared", "a:8080", "10.0.0.1") == "a.default.svc:8080"
    assert chosen(table, "shared", "b", "10.0.0.1") == "b.default.svc:5000"
    assert chosen(table, "shared", "b", "10.0.0.2") == "b.other.svc:5001"
    assert chosen(table, "shared", "c", "10.0.0.1") is None
    assert chosen(table, "shared", "a", "10.0.0.2") is None
    assert chosen(table, "shared", "a") is None


def test_a_wildcard_host_is_found_on_its_port() -> None:
    table = gateway(
        service("a"), {"*.example:80": virtual_host(name="*.example", namespace="", default=ClusterRef(cluster="wild"))}
    )
    assert chosen(table, "a.default.svc:80", "x.example") == "wild"
    assert chosen(table, "shared", "x.example:80") == "wild"


# The cache of Host values.


def test_a_host_value_is_resolved_once() -> None:
    table = table_of(rule("r"))
    entry, head = table.listeners[KEY], Head()
    assert entry.finders == {}
    first = table.match(entry, head, None)
    assert list(entry.finders) == [head.authority]
    assert table.match(entry, head, None) is first
    assert repr(entry) == f"CompiledListener({KEY!r}, 1 hosts cached)"


def test_clients_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "CACHE_LIMIT", 10)
    table = table_of(rule("r"), listeners={KEY: listener(), "two": listener("two")})
    for index in range(100):
        for name in (KEY, "two"):
            assert route_name(table, Head(authority=f"host{index}".encode()), name=name) == "r"
            assert sum(len(entry.finders) for entry in table.listeners.values()) <= 10


def test_a_giant_host_value_is_not_remembered() -> None:
    table = table_of(rule("r"))
    assert route_name(table, Head(authority=b"x" * 10_000)) == "r"
    assert table.listeners[KEY].finders == {}


def test_a_removed_listener_still_answers_and_never_with_old_rules() -> None:
    table = table_of(rule("old"))
    entry = table.listeners[KEY]
    assert route_name(table, Head()) == "old"
    table.apply(diff({"listeners": (KEY,)}))
    assert KEY not in table.listeners
    route = table.match(entry, Head(), None)
    assert route is not None
    assert route.name == "old"
    table.apply(diff(rule_sets={"rules": rule_set(rule("new"))}))
    route = table.match(entry, Head(), None)
    assert route is not None
    assert route.name == "new"
    assert entry.finders == {}


# Updates of routes.


def test_a_changed_rule_set_is_live_at_once() -> None:
    table = table_of(rule("old"))
    assert route_name(table, Head()) == "old"
    table.apply(diff(rule_sets={"rules": rule_set(rule("new"))}))
    assert route_name(table, Head()) == "new"
    table.apply(diff({"rule_sets": ("rules",)}))
    assert route_name(table, Head()) == "default"
    table.apply(diff(rule_sets={"rules": rule_set(rule("back"))}))
    assert route_name(table, Head()) == "back"


def test_a_request_in_flight_keeps_what_it_began_with() -> None:
    table = table_of(rule("old"))
    route = table.match(table.listeners[KEY], Head(), None)
    assert route is not None
    (destination,) = route.destinations
    before = destination.cluster
    table.apply(diff({"clusters": ("web",), "virtual_hosts": (KEY,)}, rule_sets={"rules": rule_set(rule("new"))}))
    assert (route.name, destination.cluster) == ("old", before)
    assert route.virtual_host.service == HOST
    assert route_name(table, Head()) is None


def test_a_virtual_host_changes_its_domains() -> None:
    table = gateway(service("a"), service("b"))
    host = table._virtual_hosts["b.default.svc:80"]
    assert chosen(table, "a.default.svc:80", "b.default.svc") == "b.default.svc:80"
    table.apply(diff(virtual_hosts=service("b", domains=("alias",))))
    assert chosen(table, "a.default.svc:80", "b.default.svc") == "a.default.svc:80"
    assert chosen(table, "a.default.svc:80", "alias") == "b.default.svc:80"
    assert table._virtual_hosts["b.default.svc:80"] is host
    table.apply(diff({"virtual_hosts": ("b.default.svc:80",)}))
    assert chosen(table, "a.default.svc:80", "alias") == "a.default.svc:80"


def test_a_virtual_host_changes_its_candidates() -> None:
    sets = {"one": rule_set(rule("one")), "two": rule_set(rule("two"))}
    table = table_of(rule_sets=sets, virtual_hosts={KEY: virtual_host("one")})
    table.apply(diff(virtual_hosts={KEY: virtual_host("two")}))
    assert route_name(table, Head()) == "two"
    table.apply(diff(rule_sets={"one": rule_set(rule("one changed"))}))
    assert route_name(table, Head()) == "two"
    assert set(table._users_of_rule_sets) == {"two"}


def test_a_listener_changes_its_host() -> None:
    table = gateway(service("a"), service("b"))
    assert chosen(table, "a.default.svc:80", "") == "a.default.svc:80"
    entry = table.listeners["a.default.svc:80"]
    table.apply(diff(listeners={"a.default.svc:80": listener("a.default.svc:80", 80, "b.default.svc:80")}))
    assert table.listeners["a.default.svc:80"] is entry
    assert chosen(table, "a.default.svc:80", "") == "b.default.svc:80"


def test_other_virtual_hosts_are_not_compiled_again() -> None:
    table = table_of(rule("r"), virtual_hosts={KEY: virtual_host("rules"), "b:80": virtual_host("other", name="b")})
    before = [table.match(table.listeners[KEY], Head(authority=name), None) for name in (HOST.encode(), b"b")]
    table.apply(diff(rule_sets={"other": rule_set(rule("new"))}))
    after = [table.match(table.listeners[KEY], Head(authority=name), None) for name in (HOST.encode(), b"b")]
    assert after[0] is before[0]
    assert after[1] is not before[1]


@pytest.mark.parametrize("section", ["rule_sets", "virtual_hosts", "clusters"])
def test_a_bad_diff_changes_nothing(section: str) -> None:
    table = table_of(rule("r"))
    bad: dict[str, Any] = {
        "rule_sets": {"rules": rule_set(rule("bad", MatchSpec(path=path("regex", "("))))},
        "virtual_hosts": {KEY: virtual_host("rules", default=ClusterRef(cluster="web", host_rewrite="a\r\nb"))},
        "clusters": {"bad": cluster("bad", hash=HashSpec(kind="cookie", name="a", ttl_s=0.0, path="/\r\n"))},
    }
    with pytest.raises(ValueError, match=r"regular expression|line break"):
        table.apply(diff({"clusters": ("web",)}, endpoints={"web": (endpoint(),)}, **{section: bad[section]}))
    assert route_name(table, Head()) == "r"
    assert table.clusters["web"].endpoints == []
    assert issubclass(RegexError, ValueError)


def test_removing_what_is_not_there_does_nothing() -> None:
    table = table_of(rule("r"))
    sections = ("listeners", "virtual_hosts", "rule_sets", "clusters", "endpoints", "identities", "callers")
    change = table.apply(diff(dict.fromkeys(sections, ("nosuch",))))
    assert repr(change) == "TableChange(0 endpoints, 0 clusters removed)"
    assert route_name(table, Head()) == "r"


def test_put_wins_over_removed() -> None:
    table = table_of(rule("r"), endpoints={"web": (endpoint(),)})
    web, host, entry = table.clusters["web"], table._virtual_hosts[KEY], table.listeners[KEY]
    change = table.apply(
        diff(
            {"clusters": ("web",), "endpoints": ("web",), "virtual_hosts": (KEY,), "listeners": (KEY,), "rule_sets": ("rules",)},
            clusters={"web": cluster()},
            endpoints={"web": (endpoint(),)},
            virtual_hosts={KEY: virtual_host("rules")},
            listeners={KEY: listener()},
            rule_sets={"rules": rule_set(rule("new"))},
        )
    )
    assert (change.clusters_removed, change.removed_endpoints) == ([], [])
    assert (table.clusters["web"], table._virtual_hosts[KEY], table.listeners[KEY]) == (web, host, entry)
    assert route_name(table, Head()) == "new"


def test_the_table_counts_versions() -> None:
    table = table_of(rule("r"))
    assert repr(table) == "RouteTable(version=1, 1 virtual hosts, 1 clusters)"


# Clusters and endpoints.


def test_an_endpoint_update_touches_its_cluster_only() -> None:
    table = table_of(rule("r"), endpoints={"web": (endpoint("10.0.0.1"), endpoint("10.0.0.2"))})
    entry = table.listeners[KEY]
    route = table.match(entry, Head(), None)
    kept, gone = table.clusters["web"].endpoints
    change = table.apply(diff(endpoints={"web": (endpoint("10.0.0.1"), endpoint("10.0.0.3"))}))
    assert change.removed_endpoints == [gone]
    assert table.clusters["web"].endpoints[0] is kept
    assert len(entry.finders) == 1
    assert table.match(entry, Head(), None) is route


def test_a_changed_cluster_keeps_its_endpoints_and_routes() -> None:
    table = table_of(rule("r"), endpoints={"web": (endpoint(),)})
    web, route = table.clusters["web"], table.match(table.listeners[KEY], Head(), None)
    members = list(web.endpoints)
    table.apply(diff(clusters={"web": cluster(balancer="RANDOM")}))
    assert table.clusters["web"] is web
    assert (web.endpoints, web.spec.balancer) == (members, "RANDOM")
    assert table.match(table.listeners[KEY], Head(), None) is route


@pytest.mark.parametrize("default", [True, False])
def test_routes_follow_clusters_that_come_and_go(default: bool) -> None:
    table = table_of(*([] if default else [rule("r", action=forward("web", "late"))]), clusters={})

    def linked() -> list[str | None]:
        route = table.match(table.listeners[KEY], Head(), None)
        assert route is not None
        return [destination.cluster.name if destination.cluster else None for destination in route.destinations]

    assert linked() == ([None] if default else [None, None])
    table.apply(diff(clusters={"web": cluster()}))
    assert linked() == (["web"] if default else ["web", None])
    table.apply(diff({"clusters": ("web",)}, clusters={"late": cluster("late")}))
    assert linked() == ([None] if default else [None, "late"])


def test_mirrors_follow_clusters_too() -> None:
    table = table_of(rule("r", action=forward("web", mirrors=(MirrorSpec(cluster="late"),))))
    table.apply(diff(clusters={"late": cluster("late")}))
    route = table.match(table.listeners[KEY], Head(), None)
    assert route is not None
    assert route.mirrors[0].cluster is table.clusters["late"]


def test_limits_are_divided_over_the_workers() -> None:
    table = RouteTable(workers=4)
    table.apply(diff(clusters={"web": cluster(max_requests=10)}))
    limits = table.clusters["web"].limits
    assert limits is not None
    assert limits.max_requests == 3


def test_labels_of_endpoints_follow_their_identities() -> None:
    spec = cluster(locality=LocalitySpec(failover_priority=("v",)), outlier=OutlierSpec())
    members = (endpoint("10.0.0.1", identity="one"), endpoint("10.0.0.2", identity="two"), endpoint("10.0.0.3"))
    one, two = IdentitySpec(namespace="a", labels={"v": "1"}), IdentitySpec(namespace="a", labels={"v": "2"})
    table = table_of(clusters={"web": spec}, endpoints={"web": members}, identities={"one": one, "two": two})
    web, rng = table.clusters["web"], random.Random(1)
    assert web.pick_for(rng, (), None, "", {"v": "2"}) is web.endpoints[1]
    assert web.pick_for(rng, (), None, "", {}) is web.endpoints[2]
    table.apply(diff(identities={"one": two}))
    assert {web.pick_for(rng, (), None, "", {"v": "2"}) for _ in range(50)} == set(web.endpoints[:2])
    table.apply(diff({"identities": ("one",)}))
    assert web.pick_for(rng, (), None, "", {"v": "2"}) is web.endpoints[1]


def test_a_removed_cluster_reports_its_endpoints() -> None:
    table = table_of(rule("r"), endpoints={"web": (endpoint(),)})
    web = table.clusters["web"]
    members = list(web.endpoints)
    change = table.apply(diff({"clusters": ("web",), "endpoints": ("web",)}))
    assert (change.clusters_removed, change.removed_endpoints) == ([web], members)
    assert members[0].removed
    table.apply(diff(clusters={"web": cluster()}))
    assert table.clusters["web"] is not web
    assert table.clusters["web"].endpoints == []


def test_endpoints_may_come_before_their_cluster_and_outlive_it() -> None:
    table = table_of(rule("r"), clusters={}, endpoints={"web": (endpoint(),)})
    table.apply(diff(clusters={"web": cluster()}))
    assert [member.address for member in table.clusters["web"].endpoints] == ["10.0.0.1"]
    table.apply(diff({"clusters": ("web",)}))
    table.apply(diff(clusters={"web": cluster()}))
    assert [member.address for member in table.clusters["web"].endpoints] == ["10.0.0.1"]
    table.apply(diff({"endpoints": ("web",)}))
    assert table.clusters["web"].endpoints == []


def test_what_nobody_refers_to_is_forgotten() -> None:
    table = table_of(rule("r", MatchSpec(source=SourceMatch(namespace="default"))))
    table.apply(diff({"virtual_hosts": (KEY,)}))
    assert table._users_of_clusters == {}
    assert table._users_of_rule_sets == {}
    assert table._hosts == {}
    assert table._caller_dependent == set()


def test_users_of_clusters_and_rule_sets_are_kept_to_what_is_used() -> None:
    hosts = {KEY: virtual_host("rules", "rules", default=None), "b:80": virtual_host("rules", name="b", default=None)}
    table = table_of(rule("r"), virtual_hosts=hosts)
    assert table._users_of_clusters == {"web": {KEY, "b:80"}}
    table.apply(diff(rule_sets={"rules": rule_set(rule("r", action=forward("other")))}))
    assert table._users_of_clusters == {"other": {KEY, "b:80"}}
    table.apply(diff({"virtual_hosts": ("b:80",)}))
    assert table._users_of_clusters == {"other": {KEY}}
    table.apply(diff({"virtual_hosts": (KEY,)}))
    assert (table._users_of_clusters, table._users_of_rule_sets) == ({}, {})


# Callers.


def test_a_caller_is_known_by_its_address() -> None:
    table = gateway()
    caller = table.caller("10.0.0.2")
    assert caller is not None
    assert (caller.namespace, caller.labels, caller.identity, caller.spec) == ("other", {}, "o", OTHER_NS)
    assert repr(caller) == "Caller('o')"
    assert table.caller("10.9.9.9") is None
    assert table.identity("o") is OTHER_NS
    assert table.identity("nosuch") is None


def test_callers_of_one_identity_are_one_object() -> None:
    table = gateway()
    table.apply(diff(callers={"10.0.0.3": "o"}, identities={"o": IdentitySpec(namespace="other")}))
    assert table.caller("10.0.0.3") is table.caller("10.0.0.2")
    table.apply(diff({"callers": ("10.0.0.3",)}))
    assert table.caller("10.0.0.3") is None


def test_a_caller_without_identity_is_unknown() -> None:
    table = gateway()
    table.apply(diff({"identities": ("o",)}))
    assert table.caller("10.0.0.2") is None


def test_a_changed_identity_is_seen_and_the_old_one_forgotten() -> None:
    mine = rule("mine", MatchSpec(source=SourceMatch(namespace="default")))
    table = table_of(mine, rule("rest"), identities={"d": WEB_NS}, callers={"10.0.0.1": "d"})
    old = table.caller("10.0.0.1")
    assert route_name(table, Head(), "10.0.0.1") == "mine"
    table.apply(diff(identities={"d": OTHER_NS}))
    assert route_name(table, Head(), "10.0.0.1") == "rest"
    (host,) = table._virtual_hosts.values()
    assert list(host._by_caller) == [table.caller("10.0.0.1")]
    route = table.match(table.listeners[KEY], Head(), old)  # a connection that began before
    assert route is not None
    assert route.name == "mine"


def test_a_host_can_become_dependent_on_the_caller_and_back() -> None:
    table = table_of(rule("all"), identities={"d": WEB_NS}, callers={"10.0.0.1": "d"})
    assert table._caller_dependent == set()
    table.apply(diff(rule_sets={"rules": rule_set(rule("all"), export_to=("default",))}))
    assert table._caller_dependent == {KEY}
    assert [route_name(table, Head(), address) for address in ("10.0.0.1", "")] == ["all", "default"]
    table.apply(diff(virtual_hosts={KEY: virtual_host(CandidateSpec(rule_set="none"))}))
    assert table._caller_dependent == set()


def test_values_of_the_head_are_read_only_when_a_rule_needs_them() -> None:
    table = table_of(rule("p", MatchSpec(path=path("exact", "/p"))), rule("h", MatchSpec(headers=(header("x-a", exact("1")),))))
    head = Head(b"/p")
    assert route_name(table, head) == "p"
    assert head.asked == []
