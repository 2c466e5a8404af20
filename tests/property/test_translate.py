# SPDX-License-Identifier: Apache-2.0
"""Properties of routing.translate: the indexes and memories that make it fast change nothing.

The plain twin of host selection is `_naive_candidates`: for every virtual host, all VirtualServices one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.names import covering_patterns, covers
from routing.resources import Resource, VirtualService, decode
from routing.store import Store
from routing.translate import TranslateOptions, pod_identity, translate, translate_callers, translate_endpoints
from tests.unit.routing.objects import (
    destination_rule,
    endpoint,
    endpoint_slice,
    pod,
    service,
    service_entry,
    subset,
    to,
    virtual_service,
)

if TYPE_CHECKING:
    from routing.specs import EndpointSpec, VirtualHostSpec

_NAMES = st.sampled_from(["a", "b"])
_SPACES = st.sampled_from(["n", "m", "istio-system"])
_DATES = st.sampled_from(["", "2024-01-01", "2024-01-02"])
_IPS = st.sampled_from(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
_HOSTS = st.sampled_from(
    [
        "a",
        "b",
        "a.n",
        "b.m.svc",
        "a.n.svc.cluster.local",
        "*.n.svc.cluster.local",
        "*.cluster.local",
        "*.local",
        "x.test",
        "*.test",
    ]
)
_LABELS = st.dictionaries(st.sampled_from(["app", "version"]), st.sampled_from(["1", "2"]))
_EXPORTS = st.sampled_from([[], ["*"], ["."], ["third"], ["other", "."]])
_FLAGS = st.sampled_from([None, True, False])

_PORTS = st.sampled_from([None, [{"name": "http", "port": 80}]])
_SERVICES = st.builds(service, _NAMES, _SPACES, created=_DATES, clusterIP=st.one_of(_IPS, st.just("None")), ports=_PORTS)
_TARGETS = st.sampled_from(["a.n.svc.cluster.local", "b.m.svc.cluster.local", "x.test", "p.a.n.svc.cluster.local", "127.0.0.1"])
_ALIASES = st.builds(
    lambda name, namespace, target, ports: service(name, namespace, type="ExternalName", externalName=target, ports=ports),
    _NAMES,
    _SPACES,
    _TARGETS,
    st.sampled_from([[], [{"port": 81}]]),
)
_PODS = st.builds(pod, st.sampled_from(["p", "q"]), _IPS, _SPACES, phase=st.sampled_from(["Running", "Failed"]), labels=_LABELS)
_ENDPOINTS = st.builds(endpoint, _IPS, st.sampled_from(["", "p", "q"]), ready=_FLAGS, serving=_FLAGS, terminating=_FLAGS)
_SLICES = st.builds(
    lambda of, members, namespace, name: endpoint_slice(of, *members, namespace=namespace, name=name),
    _NAMES,
    st.lists(_ENDPOINTS, max_size=3),
    _SPACES,
    _NAMES,
)


@st.composite
def _virtual_services(draw: st.DrawFn) -> dict[str, Any]:
    match = draw(st.sampled_from([None, [{"port": 80}], [{"port": 81}], [{"sourceNamespace": "m"}]]))
    route = [to(draw(_HOSTS.filter(lambda host: not host.startswith("*"))), draw(st.sampled_from(["", "s"])))]
    hosts = [draw(_HOSTS)]
    return virtual_service(
        draw(_NAMES),
        hosts,
        {"match": match, "route": route},
        namespace=draw(_SPACES),
        created=draw(_DATES),
        gateways=draw(st.sampled_from([[], ["mesh"], ["acmg-gateway"], ["ingress"]])),
        exportTo=draw(_EXPORTS),
    )


@st.composite
def _destination_rules(draw: st.DrawFn) -> dict[str, Any]:
    subsets = draw(st.lists(st.builds(lambda labels: subset("s", **labels), _LABELS), max_size=1))
    return destination_rule(
        draw(_NAMES), draw(_HOSTS), *subsets, namespace=draw(_SPACES), created=draw(_DATES), exportTo=draw(_EXPORTS)
    )


@st.composite
def _service_entries(draw: st.DrawFn) -> dict[str, Any]:
    hosts = [draw(st.sampled_from(["x.test", "y.test", "a.n.svc.cluster.local", "b.m", "p.a.n.svc", "*.test"]))]
    static: dict[str, Any] = {"resolution": "STATIC", "endpoints": [{"address": draw(_IPS), "labels": draw(_LABELS)}]}
    selecting: dict[str, Any] = {"resolution": "STATIC", "workloadSelector": {"labels": draw(_LABELS)}}
    named: dict[str, Any] = {"resolution": "DNS", "endpoints": [{"address": "z.test"}]}
    how = draw(st.sampled_from([static, selecting, named, {"resolution": "NONE"}]))
    return service_entry(
        draw(_NAMES),
        hosts,
        draw(_SPACES),
        created=draw(_DATES),
        addresses=draw(st.lists(_IPS, max_size=1)),
        exportTo=draw(_EXPORTS),
        **how,
    )


_KINDS = (_SERVICES, _ALIASES, _PODS, _SLICES, _service_entries(), _virtual_services(), _destination_rules())
_OBJECTS = st.one_of(*_KINDS).map(decode)
_WORLDS = st.lists(_OBJECTS, max_size=14)


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


@given(world=_WORLDS)
def test_candidates_are_those_of_a_plain_walk(world: list[Resource]) -> None:
    store = Store(world)
    specs = translate(store).specs
    for host in specs.virtual_hosts.values():
        ordered = sorted(host.candidates, key=lambda candidate: candidate.rank)
        assert [candidate.rule_set for candidate in ordered] == _naive_candidates(store, host)
    assert {candidate.rule_set for host in specs.virtual_hosts.values() for candidate in host.candidates} == set(specs.rule_sets)


@given(world=_WORLDS, gone=st.lists(_OBJECTS, max_size=6), data=st.data())
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


@given(world=_WORLDS)
def test_the_short_ways_give_what_the_full_translation_gives(world: list[Resource]) -> None:
    store = Store(world)
    specs = translate(store).specs
    endpoints: dict[str, tuple[EndpointSpec, ...]] = {}
    for key in store.services:
        endpoints |= translate_endpoints(store, key)
    assert endpoints.items() <= specs.endpoints.items()
    owners = {
        (cluster.service_namespace, cluster.service_name) for name, cluster in specs.clusters.items() if name not in endpoints
    }
    assert not any(key in store.services and not store.services[key].is_alias for key in owners)
    addresses = list(store.addresses())
    assert translate_callers(store, addresses) == specs.callers
    identities = dict(found for key in store.pods if (found := pod_identity(store, key)) is not None)
    of_services = {member.identity for members in endpoints.values() for member in members if member.identity}
    assert of_services <= identities.keys()
    assert all(specs.identities[key] == identities[key] for key in of_services)


@given(world=_WORLDS)
def test_names_in_specs_lead_somewhere(world: list[Resource]) -> None:
    translation = translate(Store(world), TranslateOptions(shared_binds=(("127.0.0.1", 80),)))
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
