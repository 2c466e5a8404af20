# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routing.specs import CandidateSpec, ClusterRef, IdentitySpec, MatchSpec, RuleSpec, SourceMatch
from routing.table.virtual_host import CompiledVirtualHost, never
from tests.unit.routing.table_kit import (
    KEY,
    Head,
    cluster,
    diff,
    forward,
    path,
    route_name,
    rule,
    rule_set,
    table_of,
    virtual_host,
)

if TYPE_CHECKING:
    from routing.table import RouteTable

CALLERS = {
    "10.1.0.1": IdentitySpec(namespace="default", labels={"app": "web", "version": "v1"}),
    "10.1.0.2": IdentitySpec(namespace="default", labels={"app": "cron"}),
    "10.1.0.3": IdentitySpec(namespace="other", labels={"app": "web"}),
    "10.1.0.4": IdentitySpec(namespace="third"),
}


def with_callers(table: RouteTable) -> RouteTable:
    table.apply(
        diff(identities={f"id-{address}": spec for address, spec in CALLERS.items()}, callers={a: f"id-{a}" for a in CALLERS})
    )
    return table


def by_source(name: str, namespace: str = "", **labels: str) -> RuleSpec:
    return rule(name, MatchSpec(source=SourceMatch(namespace=namespace, labels=labels)))


def seen(table: RouteTable, head: Head | None = None) -> list[str | None]:
    """The route of each caller of CALLERS and of an unknown one."""
    return [route_name(table, head or Head(), address) for address in (*CALLERS, "10.9.9.9")]


def two_sets(first: dict[str, Any], second: dict[str, Any], ranks: tuple[int, int] = (0, 0)) -> RouteTable:
    sets = {"one": rule_set(rule("one"), name="one", **first), "two": rule_set(rule("two"), name="two", **second)}
    candidates = [CandidateSpec(rule_set=name, rank=rank) for name, rank in zip(sets, ranks, strict=True)]
    return with_callers(table_of(rule_sets=sets, virtual_hosts={KEY: virtual_host(*candidates)}))


def test_without_candidates_the_default_route_serves() -> None:
    table = table_of(virtual_hosts={KEY: virtual_host()})
    assert route_name(table, Head()) == "default"


def test_without_default_nothing_matches() -> None:
    table = table_of(virtual_hosts={KEY: virtual_host(default=None)})
    assert route_name(table, Head()) is None


def test_an_owner_does_not_fall_through_to_the_default() -> None:
    assert route_name(table_of(rule("r", MatchSpec(path=path("exact", "/x")))), Head(b"/y")) is None


def test_a_rule_set_without_rules_owns_nothing() -> None:
    assert route_name(table_of(rule_sets={"rules": rule_set()}), Head()) == "default"


def test_a_missing_rule_set_owns_nothing() -> None:
    assert route_name(table_of(virtual_hosts={KEY: virtual_host("nowhere")}), Head()) == "default"


def test_the_lower_rank_wins_then_the_given_order() -> None:
    assert set(seen(two_sets({}, {}))) == {"one"}
    assert set(seen(two_sets({}, {}, (1, 0)))) == {"two"}


def test_rank_beats_visibility_class() -> None:
    assert set(seen(two_sets({}, {"namespace": "other", "export_to": ("other",)}, (0, 1)))) == {"one"}


def test_visibility_class_beats_given_order() -> None:
    table = two_sets({}, {"namespace": "other", "export_to": ("other", "third")})
    assert seen(table) == ["one", "one", "two", "two", "one"]
    table = two_sets({"namespace": "default", "export_to": ("other",)}, {"namespace": "other", "export_to": ("other",)})
    assert seen(table) == ["default", "default", "two", "default", "default"]


def test_source_conditions_choose_entries_per_caller() -> None:
    table = with_callers(table_of(by_source("v1", app="web", version="v1"), by_source("other", "other"), rule("rest")))
    assert seen(table) == ["v1", "rest", "other", "rest", "rest"]


def test_namespace_and_labels_must_both_hold() -> None:
    table = with_callers(table_of(by_source("both", "other", app="web"), rule("rest")))
    assert seen(table) == ["rest", "rest", "both", "rest", "rest"]


def test_a_rule_set_of_which_nothing_is_left_hands_on_to_the_next() -> None:
    sets = {"one": rule_set(by_source("one", app="web")), "two": rule_set(by_source("two", "default"))}
    table = with_callers(table_of(rule_sets=sets, virtual_hosts={KEY: virtual_host("one", "two")}))
    assert seen(table) == ["one", "two", "one", "default", "default"]


def test_one_entry_of_a_rule_can_go_alone() -> None:
    mixed = rule(
        "r", MatchSpec(name="web", source=SourceMatch(labels={"app": "web"})), MatchSpec(name="x", path=path("exact", "/x"))
    )
    table = with_callers(table_of(mixed))
    assert seen(table) == ["r.web", None, "r.web", None, None]
    assert seen(table, Head(b"/x")) == ["r.web", "r.x", "r.web", "r.x", "r.x"]


def test_callers_are_led_to_the_variant_of_their_namespace() -> None:
    ref = ClusterRef(cluster="web", by_namespace={"other": "web@other"})
    clusters = {name: cluster(name) for name in ("web", "web@other")}
    for table in (
        with_callers(table_of(rule("r", action=forward(ref)), clusters=clusters)),
        with_callers(table_of(virtual_hosts={KEY: virtual_host(default=ref)}, clusters=clusters)),
    ):
        listener = table.listeners[KEY]
        routes = [table.match(listener, Head(), table.caller(address)) for address in (*CALLERS, "10.9.9.9")]
        names = [route.destinations[0].cluster.name for route in routes if route is not None and route.destinations[0].cluster]
        assert names == ["web", "web", "web@other", "web", "web"]
        assert routes[0] is routes[1] is routes[3] is routes[4]


def test_callers_that_see_the_same_share_a_view() -> None:
    table = with_callers(table_of(by_source("web", app="web"), rule("rest")))
    seen(table)
    (host,) = table._virtual_hosts.values()
    assert repr(host) == f"CompiledVirtualHost({KEY!r}, 2 views)"


def test_without_caller_dependence_there_is_one_view_and_no_dispatch() -> None:
    table = with_callers(table_of(rule("all")))
    seen(table)
    (host,) = table._virtual_hosts.values()
    assert not host.depends_on_caller
    assert len(host._views) == 1
    assert host._by_caller == {}


def test_the_host_knows_its_service() -> None:
    host = CompiledVirtualHost("k")
    host.update(virtual_host(name="a.b", namespace="b"), None)
    assert (host.name, host.service) == ("a.b", "a.b")
    host.update(virtual_host(name="*.b", namespace=""), None)
    assert (host.name, host.service) == ("*.b", "unknown")
    assert host.find is never


def test_a_label_that_the_caller_lacks_is_no_match() -> None:
    table = with_callers(table_of(by_source("r", app="none")))
    assert set(seen(table)) == {"default"}
