# SPDX-License-Identifier: Apache-2.0
"""Properties of routing.translate: the indexes and memories that make it fast change nothing.

The plain twin of host selection is `_naive_candidates`: for every virtual host, all VirtualServices one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.names import covering_patterns, covers
from routing.store import Store
from routing.translate import TranslateOptions, translate
from tests.property.worlds import OBJECTS, WORLDS

if TYPE_CHECKING:
    from routing.resources import Resource, VirtualService
    from routing.specs import VirtualHostSpec


def _naive_host(host: str, namespace: str, store: Store) -> str:
    if host.startswith("*"):
        return host
    if "." not in host:
        return f"{host}.{namespace}.svc.cluster.local"
    for key in store.services:
        owner, name = key
        full = f"{name}.{owner}.svc.cluster.local"
        if host in {f"{name}.{owner}", f"{name}.{owner}.svc"} and not _leads_nowhere(key, store):
            return full
    full = f"{host.removesuffix('.svc')}.svc.cluster.local"
    return full if any(full in entry.spec.hosts for entry in store.service_entries.values()) else host


def _leads_nowhere(key: tuple[str, str], store: Store, seen: tuple[tuple[str, str], ...] = ()) -> bool:
    """Tell whether a Service is an alias in a circle."""
    found = store.services.get(key)
    if found is None or not found.is_alias:
        return False
    name, owner, *_ = *found.spec.external_name.split("."), ""
    is_service = found.spec.external_name == f"{name}.{owner}.svc.cluster.local"
    return key in seen or (is_service and _leads_nowhere((owner, name), store, (*seen, key)))


def _naive_candidates(store: Store, host: VirtualHostSpec) -> list[str]:
    def specificity(vs: VirtualService) -> int:
        (pattern,) = (_naive_host(entry, vs.meta.namespace, store) for entry in vs.spec.hosts)
        if pattern == host.name:
            return 1000
        return len(pattern) if pattern.startswith("*") and host.name.endswith(pattern[1:]) else 0

    found = []
    for vs in store.virtual_services.values():
        ours = not vs.spec.gateways or "ingress" not in vs.spec.gateways
        on_port = not vs.spec.http[0].match or vs.spec.http[0].match[0].port in {None, host.port}
        if ours and on_port and specificity(vs):
            found.append(vs)
    found.sort(key=lambda vs: (-specificity(vs), vs.meta.age))
    groups: dict[object, list[str]] = {}
    for vs in found:
        # Those bound to this gateway alone are merged if they have the host and the namespaces that see them in common.
        viewers = frozenset(vs.meta.namespace if entry == "." else entry for entry in vs.spec.export_to) - {"*"}
        group = (specificity(vs), viewers) if vs.spec.gateways == ("acmg-gateway",) else vs.key
        groups.setdefault(group, []).append(f"{vs.meta.namespace}/{vs.meta.name}")
    return [f"virtualservice/{'+'.join(names)}@{host.port}" for names in groups.values()]


@given(world=WORLDS)
def test_candidates_are_those_of_a_plain_walk(world: list[Resource]) -> None:
    store = Store(world)
    specs = translate(store).specs
    for host in specs.virtual_hosts.values():
        ordered = sorted(host.candidates, key=lambda candidate: candidate.rank)
        assert [candidate.rule_set for candidate in ordered] == _naive_candidates(store, host)
    assert {candidate.rule_set for host in specs.virtual_hosts.values() for candidate in host.candidates} == set(specs.rule_sets)


@given(world=WORLDS, gone=st.lists(OBJECTS, max_size=6), data=st.data())
@settings(max_examples=60)
def test_a_translation_depends_on_what_is_stored_and_not_on_how_it_came_there(
    world: list[Resource], gone: list[Resource], data: st.DataObject
) -> None:
    plain = Store()
    for resource in world:
        plain.put(resource)
    stored = list(plain.resources())
    keys = {(resource.kind, resource.key) for resource in stored}
    other = Store(gone)
    for resource in data.draw(st.permutations(stored)):
        other.put(resource)
    for resource in gone:
        if (resource.kind, resource.key) not in keys:
            other.delete(resource.kind, *resource.key)
    one, two = translate(plain), translate(other)
    assert one.specs == two.specs
    assert set(one.diagnostics) == set(two.diagnostics)


@given(world=WORLDS, listeners=st.sampled_from(["cluster-ip", "gateway-ports"]))
def test_names_in_specs_lead_somewhere(world: list[Resource], listeners: str) -> None:
    addresses = {"gateway_addresses": ("127.0.0.1", "127.0.0.2"), "shared_binds": (("127.0.0.1", 80),)}
    translation = translate(Store(world), msgspec.convert({"listeners": listeners, **addresses}, TranslateOptions))
    specs = translation.specs
    assert set(specs.clusters) == set(specs.endpoints)
    assert all(name == spec.name for name, spec in specs.clusters.items())
    assert all(spec.virtual_host in specs.virtual_hosts for name, spec in specs.listeners.items() if name != "shared")
    binds = [bind for spec in specs.listeners.values() for bind in spec.binds]
    assert len(binds) == len(set(binds))
    for host in specs.virtual_hosts.values():
        if host.default is not None:
            named = {host.default.cluster, *host.default.by_namespace.values()}
            lost = {name for name in named - set(specs.clusters) if not name.endswith("@-")}
            assert all("|81|" in name for name in lost)  # an alias with a port that its target lacks
    assert all(name in specs.clusters for name in translation.names)
    domains = [(domain, host.port) for host in specs.virtual_hosts.values() for domain in host.domains]
    assert len(domains) == len(set(domains))
    known = [key for members in specs.endpoints.values() for member in members if (key := member.identity)]
    assert {*known, *specs.callers.values()} <= set(specs.identities)


_LABEL = st.sampled_from(["a", "b", "cc"])
_DOTTED = st.lists(_LABEL, min_size=1, max_size=4).map(".".join)
_PATTERNS = st.one_of(_DOTTED, _DOTTED.map(lambda host: f"*.{host}"), st.just("*"))


@given(pattern=_PATTERNS, host=_PATTERNS)
def test_the_covering_patterns_are_exactly_those_that_cover(pattern: str, host: str) -> None:
    assert (pattern in covering_patterns(host)) is covers(pattern, host)
