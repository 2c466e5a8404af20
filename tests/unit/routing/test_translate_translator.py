# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: the translator, its memory and its short ways.

That it always says what a translation of everything says is a property (tests/property); here is what it costs, and dependencies
that chance would seldom find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.resources import decode
from routing.specs import Specs
from routing.translate import Step, Translator, _translator, translate
from routing.translate._census import Census
from routing.translate._memory import Memory
from tests.unit.routing.objects import (
    destination_rule,
    endpoint,
    endpoint_slice,
    pod,
    service,
    service_entry,
    shadow,
    shadow_slice,
    store,
    subset,
    to,
    virtual_service,
)

if TYPE_CHECKING:
    from routing.store import Store
    from tests.unit.routing.objects import Obj

B = "b.default.svc.cluster.local"


class World:
    """A store with its translator."""

    def __init__(self, *objects: Obj) -> None:
        self.store: Store = store(*objects)
        self.translator = Translator(self.store)
        self.take()

    def take(self) -> Step | None:
        step = self.translator.take(self.store.journal.take())
        plain = translate(self.store)
        assert self.translator.specs == plain.specs
        assert self.translator.diagnostics() == plain.diagnostics
        return step

    def put(self, *objects: Obj) -> Step | None:
        for obj in objects:
            self.store.put(decode(obj))
        return self.take()

    def delete(self, kind: str, name: str) -> Step | None:
        assert self.store.delete(kind, "default", name)
        return self.take()

    def sections(self, step: Step | None) -> dict[str, set[str]]:
        """What a step changes, by section."""
        assert step is not None
        found = {name: set(getattr(step.put, name)) | set(step.removed.get(name, ())) for name in Specs.__struct_fields__}
        return {name: keys for name, keys in found.items() if keys}


@pytest.fixture
def world() -> World:
    return World(
        service("b"),
        service("c"),
        pod("p1", "10.0.0.1", labels={"version": "v1"}),
        pod("p2", "10.0.0.2", labels={"version": "v2"}),
        endpoint_slice("b", endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2", "p2")),
        endpoint_slice("c", endpoint("10.0.0.3")),
        virtual_service("vs", ["b"], {"route": [to("b", "v1")]}),
        destination_rule("dr", "b", subset("v1", version="v1")),
    )


def test_nothing_but_members_and_callers_is_looked_at_when_pods_and_slices_change(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(service("b"), service("c"), pod("p1", "10.0.0.1"), endpoint_slice("b", endpoint("10.0.0.1", "p1")))
    monkeypatch.setattr(_translator, "add_hosts", None)

    def put(*objects: Obj) -> Step | None:
        for obj in objects:
            world.store.put(decode(obj))
        return world.translator.take(world.store.journal.take())

    before = world.translator.specs
    assert put(pod("p1", "10.0.0.1", uid="u")) is not None
    assert put(pod("p1", "10.0.0.1", uid="u", annotations={"a": "b"})) is None
    step = put(
        pod("p1", "10.0.0.1", uid="u", labels={"app": "b"}), endpoint_slice("b", endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2"))
    )
    assert world.sections(step) == {
        "endpoints": {f"outbound|80||{B}", f"outbound|8080||{B}"},
        "identities": set(before.identities) | set(world.translator.specs.identities),
        "callers": {"10.0.0.1"},
    }
    after = world.translator.specs
    assert after.virtual_hosts is before.virtual_hosts
    assert after.clusters is before.clusters
    step = put(pod("lonely", "10.0.0.9"))
    assert set(world.sections(step)) == {"identities", "callers"}
    assert world.translator.specs.endpoints is after.endpoints
    world.store.delete("Pod", "default", "lonely")
    step = world.translator.take(world.store.journal.take())
    assert set(world.sections(step)) == {"identities", "callers"}
    assert put(endpoint_slice("unknown", endpoint("10.0.0.1", "p1"))) is None


def test_a_namespace_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Translator, "_run", None)
    world.store.put(decode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}))
    assert world.translator.take(world.store.journal.take()) is None


def test_what_a_route_does_not_touch_is_the_same_object(world: World) -> None:
    before = world.translator.specs
    step = world.put(virtual_service("vs", ["b"], {"route": [to("c")]}))
    assert world.sections(step) == {"rule_sets": {"virtualservice/default/vs@80", "virtualservice/default/vs@8080"}}
    after = world.translator.specs
    assert all(after.virtual_hosts[key] is spec for key, spec in before.virtual_hosts.items())
    assert all(after.clusters[key] is spec for key, spec in before.clusters.items())
    assert all(after.endpoints[key] is members for key, members in before.endpoints.items())
    assert after.callers is before.callers
    assert after.identities is before.identities


def test_what_a_service_does_not_touch_is_the_same_object(world: World) -> None:
    before = world.translator.specs
    world.put(service("c", ports=[{"name": "http", "port": 81}]), service("d"))
    after = world.translator.specs
    for section in ("virtual_hosts", "clusters", "endpoints", "rule_sets"):
        old, new = getattr(before, section), getattr(after, section)
        kept = [key for key in old if f"|{B}" in key or key.startswith((B, "virtualservice"))]
        assert kept
        assert all(new[key] is old[key] for key in kept)


def test_rules_follow_the_destination_rules_of_their_destinations(world: World) -> None:
    world.put(destination_rule("own", f"{B}", subset("v1", version="v2"), namespace="other"))
    (rule,) = world.translator.specs.rule_sets["virtualservice/default/vs@80"].rules
    assert "other" in rule.action.clusters[0].by_namespace  # type: ignore[union-attr]
    world.delete("DestinationRule", "dr")
    assert "IST0101" in {found.code for found in world.translator.diagnostics()}


def test_rules_follow_the_services_of_their_destinations(world: World) -> None:
    world.put(virtual_service("vs", ["b"], {"route": [to("d")]}))
    assert [found.code for found in world.translator.diagnostics()] == ["IST0101"]
    world.put(service("d", ports=[{"name": "http", "port": 7000}]))
    assert world.translator.diagnostics() == []


def test_merged_rules_follow_what_each_of_them_follows() -> None:
    gateway: dict[str, Any] = {"gateways": ["acmg-gateway"]}
    world = World(
        service("b"),
        service("c"),
        virtual_service("one", ["b"], {"match": [{"uri": {"prefix": "/x"}}], "route": [to("c")]}, **gateway),
        virtual_service("two", ["b"], {"route": [to("c", "s")]}, **gateway),
    )
    world.put(destination_rule("dr", "c.default.svc.cluster.local", subset("s"), namespace="default"))
    world.put(destination_rule("own", "c.default.svc.cluster.local", subset("s"), namespace="other"))
    rules = world.translator.specs.rule_sets["virtualservice/default/one+default/two@80"].rules
    assert "other" in rules[-1].action.clusters[0].by_namespace  # type: ignore[union-attr]


def test_rules_follow_the_delegate(world: World) -> None:
    world.put(virtual_service("vs", ["b"], {"delegate": {"name": "leaf"}}))
    world.put(virtual_service("leaf", [], {"route": [to("c")]}))
    assert "virtualservice/default/vs@80" in world.translator.specs.rule_sets
    world.put(virtual_service("leaf", [], {"route": [to("b")]}))
    world.delete("VirtualService", "leaf")
    assert "virtualservice/default/vs@80" not in world.translator.specs.rule_sets


def test_findings_about_subsets_follow_their_order(world: World) -> None:
    none = subset("none", version="v3")
    world.put(destination_rule("dr", "b", subset("v1", version="v1"), none))
    assert world.translator.diagnostics()[0].field == "spec.subsets[1].labels"
    world.put(destination_rule("dr", "b", none, subset("v1", version="v1")))
    assert world.translator.diagnostics()[0].field == "spec.subsets[0].labels"


def test_an_equal_object_in_the_place_of_another_changes_no_finding(world: World) -> None:
    rule = destination_rule("dr", "b", subset("v1", version="v1"), subset("none", version="v3"))
    world.put(rule)
    assert [found.code for found in world.translator.diagnostics()] == ["IST0173"]
    assert world.put(rule, endpoint_slice("b", endpoint("10.0.0.1", "p1"))) is not None
    assert [found.code for found in world.translator.diagnostics()] == ["IST0173"]


def test_members_follow_the_ports_of_the_shadow() -> None:
    ports = [{"name": "http-old", "port": 80}]
    world = World(service("b"), shadow("b"), shadow_slice("b", endpoint("10.0.0.1"), ports=ports))
    assert world.translator.specs.endpoints[f"outbound|80||{B}"] == ()
    world.put(shadow("b", ports=ports))
    assert len(world.translator.specs.endpoints[f"outbound|80||{B}"]) == 1


def test_members_of_an_entry_that_selects_pods_follow_those_pods_only(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = service_entry("e", ["x.test"], resolution="STATIC", workloadSelector={"labels": {"app": "x"}})
    world = World(entry, pod("p", "10.0.0.1", labels={"app": "x"}), pod("q", "10.0.0.2"), pod("r", "10.0.0.3", "other"))
    cluster = "outbound|80||x.test"

    def addresses() -> list[str]:
        return [member.address for member in world.translator.specs.endpoints[cluster]]

    world.put(pod("q", "10.0.0.2", labels={"app": "x"}))
    assert addresses() == ["10.0.0.1", "10.0.0.2"]
    world.put(pod("p", "10.0.0.1"))
    assert addresses() == ["10.0.0.2"]
    world.delete("Pod", "q")
    assert addresses() == []
    monkeypatch.setattr(_translator, "host_clusters", None)
    for other in (pod("p", "10.0.0.1", labels={"app": "y"}), pod("r", "10.0.0.3", "other", labels={"app": "x"})):
        world.store.put(decode(other))
        world.translator.take(world.store.journal.take())


def test_another_pod_of_a_headless_service_is_another_host() -> None:
    members = [endpoint("10.0.0.1", hostname="db-0")]
    world = World(service("db", clusterIP="None"), endpoint_slice("db", *members))
    step = world.put(endpoint_slice("db", *members, endpoint("10.0.0.2", hostname="db-1")))
    assert "db-1.db.default.svc.cluster.local:80" in world.sections(step)["virtual_hosts"]
    step = world.put(endpoint_slice("db", *members, endpoint("10.0.0.3", hostname="db-1")))
    assert set(world.sections(step)) == {"endpoints"}


def test_a_failure_is_forgotten_with_everything_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.translator.specs
    with monkeypatch.context() as patch:
        patch.setattr(_translator, "add_hosts", None)
        world.store.put(decode(service("d")))
        with pytest.raises(TypeError):
            world.translator.take(world.store.journal.take())
    assert world.translator.specs is before
    assert world.translator.take_addresses({}) is None
    assert isinstance(world.translator.diagnostics(), list)
    step = world.put(pod("p3", "10.0.0.5"))
    assert {"virtual_hosts", "callers"} <= set(world.sections(step))


def test_a_memory_forgets_what_is_gone(world: World) -> None:
    world.put(endpoint_slice("c", endpoint("10.0.0.4")))
    assert "c.default.svc.cluster.local" in world.translator._memory.kept("clusters")
    world.delete("Service", "c")
    assert "c.default.svc.cluster.local" not in world.translator._memory.kept("clusters")
    assert "c.default.svc.cluster.local" not in world.translator._memory.members


def test_says_what_it_is(world: World) -> None:
    assert repr(world.translator).startswith("<Translator of <Store 2 Service")
    assert repr(Memory()) == "<Memory 0 results>"
    assert repr(Census()) == "<Census 0 identities>"
    assert repr(world.store.journal) == "<Journal 0 kinds, 0 services, 0 pods, 0 addresses>"
