# SPDX-License-Identifier: Apache-2.0
"""The compiled table answers as a naive matcher does that is written straight from the specs, whatever the configuration, however
it was reached, and weights hold statistically.

The naive matcher shares no code with the table: it walks specs for every request.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.balance import BalancerKind
from routing.cluster import Cluster
from routing.diff import diff
from routing.specs import (
    CandidateSpec,
    ClusterRef,
    ClusterSpec,
    EndpointSpec,
    ForwardSpec,
    IdentitySpec,
    ListenerSpec,
    MatchSpec,
    NamedMatch,
    PathMatch,
    RuleSetSpec,
    RuleSpec,
    SourceMatch,
    Specs,
    StringMatch,
    VirtualHostSpec,
)
from routing.table import RouteTable
from tests.unit.routing.table_kit import Head

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says nothing about the table on a busy machine."""

# The naive matcher.


def string_holds(match: StringMatch, value: str | None, *, invert: bool = False) -> bool:
    if match.kind == "present":
        return (value is None) if invert else (value is not None)
    if value is None and not invert:
        return False
    text = value or ""
    if match.kind == "exact":
        met = text == match.value
    elif match.kind == "prefix":
        met = text.startswith(match.value)
    else:
        met = re2.fullmatch(match.value, text) is not None
    return met != invert


def path_holds(match: PathMatch | None, path: str) -> bool:
    if match is None or (match.value in {"", "/"} and match.kind in {"prefix", "segments"}):
        return True
    if match.kind == "regex":
        return re2.fullmatch(match.value, path) is not None
    value = match.value
    if match.ignore_case:
        value, path = value.lower(), path.lower()
    if match.kind == "exact":
        return path == value
    if match.kind == "prefix":
        return path.startswith(value)
    wanted = [part for part in value.split("/") if part]
    return path.split("/")[1 : len(wanted) + 1] == wanted


def header_of(head: Head, name: str) -> str | None:
    if name == ":method":
        return head.method.decode()
    found = head.headers.get(name.encode())
    return found.decode() if found is not None else None


def parameter_of(head: Head, name: str) -> str | None:
    for item in head.query.decode().split("&"):
        if item.split("=")[0] == name:
            return item[len(name) + 1 :]
    return None


def entry_holds(entry: MatchSpec, head: Head) -> bool:
    return (
        path_holds(entry.path, head.path.decode())
        and (entry.method is None or string_holds(entry.method, head.method.decode()))
        and (entry.authority is None or string_holds(entry.authority, head.authority.decode()))
        and all(string_holds(named.match, header_of(head, named.name), invert=named.invert) for named in entry.headers)
        and all(string_holds(named.match, parameter_of(head, named.name), invert=named.invert) for named in entry.query)
    )


def source_holds(source: SourceMatch | None, identity: IdentitySpec | None) -> bool:
    if source is None:
        return True
    if identity is None or (source.namespace and source.namespace != identity.namespace):
        return False
    return all(identity.labels.get(key) == value for key, value in source.labels.items())


def owner_of(host: VirtualHostSpec, specs: Specs, identity: IdentitySpec | None) -> list[tuple[RuleSpec, MatchSpec]] | None:
    """Return the entries of the owning rule set that exist for the caller, None for the default route."""
    namespace = identity.namespace if identity is not None else None
    ordered = []
    for position, candidate in enumerate(host.candidates):
        rules = specs.rule_sets.get(candidate.rule_set)
        if rules is None or (rules.export_to and namespace not in rules.export_to):
            continue
        visibility = 2 if not rules.export_to else 0 if rules.namespace == namespace else 1
        ordered.append((candidate.rank, visibility, position, rules))
    for *_, rules in sorted(ordered, key=lambda item: item[:3]):
        entries = [
            (rule, entry)
            for rule in rules.rules
            for entry in rule.matches or (MatchSpec(),)
            if source_holds(entry.source, identity)
        ]
        if entries:
            return entries
    return None


def host_on(port: int, head: Head, specs: Specs, identity: IdentitySpec | None) -> VirtualHostSpec | None:
    name = head.host.decode()
    hosts = [host for host in specs.virtual_hosts.values() if host.port == port]
    for host in hosts:
        if identity is not None and host.short_name == name and host.namespace == identity.namespace:
            return host
    for host in hosts:
        if name in host.domains:
            return host
    wild = [
        (len(d), host) for host in hosts for d in host.domains if d[0] == "*" and name.endswith(d[1:]) and len(name) >= len(d)
    ]
    return max(wild, key=lambda item: item[0])[1] if wild else None


def only(hosts: Iterable[VirtualHostSpec | None]) -> VirtualHostSpec | None:
    services = [host for host in hosts if host is not None and host.namespace]
    return services[0] if len(services) == 1 else None


def naive(specs: Specs, listener: ListenerSpec, head: Head, identity: IdentitySpec | None) -> tuple[str, str] | None:
    """Return (virtual host, route name with its cluster) of a request."""
    if listener.port:
        host = host_on(listener.port, head, specs, identity) or specs.virtual_hosts.get(listener.virtual_host)
    else:
        host = host_on(head.port or 80, head, specs, identity) or only(
            host
            for host in specs.virtual_hosts.values()
            if identity is not None and (host.short_name.encode(), host.namespace) == (head.host, identity.namespace)
        )
        host = host or only(host_on(port, head, specs, None) for port in PORTS)
    if host is None:
        return None
    entries = owner_of(host, specs, identity)
    if entries is None:
        return (host.name, f"default>{host.default.cluster}") if host.default is not None else None
    for rule, entry in entries:
        if entry_holds(entry, head):
            assert isinstance(rule.action, ForwardSpec)
            (ref,) = rule.action.clusters
            cluster = ref.by_namespace.get(identity.namespace if identity is not None else "", ref.cluster)
            return host.name, f"{rule.name}.{entry.name}>{cluster}" if entry.name else f"{rule.name}>{cluster}"
    return None


def compiled(table: RouteTable, listener: str, head: Head, address: str) -> tuple[str, str] | None:
    route = table.match(table.listeners[listener], head, table.caller(address))
    if route is None:
        return None
    (destination,) = route.destinations
    return route.virtual_host.name, f"{route.name}>{destination.cluster_name}"


# Configurations and requests over a small vocabulary, so that they meet often.

PORTS = (80, 5000)
NAMESPACES = ("default", "other")
IDENTITIES = {
    "web": IdentitySpec(namespace="default", labels={"app": "web"}),
    "cron": IdentitySpec(namespace="default", labels={"app": "cron", "tier": "b"}),
    "other": IdentitySpec(namespace="other", labels={"app": "web"}),
}
CALLERS = {f"10.0.0.{number}": key for number, key in enumerate(IDENTITIES)}

words = st.sampled_from(["a", "b", "A", "ab"])
paths = st.lists(words, max_size=3).map(lambda parts: "/" + "/".join(parts)) | st.just("/a/")
patterns = st.sampled_from([".*", "/a.*", "/[ab]+", "/a/?b?", ".*b", "a|b", "(?i)/a"])
strings = st.builds(StringMatch, kind=st.sampled_from(["exact", "prefix"]), value=words) | st.builds(
    StringMatch, kind=st.just("regex"), value=st.sampled_from(["a.*", ".*", "[ab]", "b?"])
)
values = strings | st.just(StringMatch(kind="present")) | st.just(StringMatch(kind="exact", value=""))
headers = st.builds(NamedMatch, name=st.sampled_from(["x-a", "x-b"]), match=values, invert=st.booleans())
path_matches = st.builds(
    PathMatch, kind=st.sampled_from(["exact", "prefix", "segments"]), value=paths, ignore_case=st.booleans()
) | st.builds(PathMatch, kind=st.just("regex"), value=patterns, ignore_case=st.booleans())
sources = st.builds(
    SourceMatch,
    namespace=st.sampled_from(["", *NAMESPACES]),
    labels=st.sampled_from([{}, {"app": "web"}, {"tier": "b"}]),
)


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), strategy)


entries = st.builds(
    MatchSpec,
    name=st.sampled_from(["", "m"]),
    path=st.one_of(st.none(), path_matches, path_matches, path_matches),
    method=rarely(st.just(StringMatch(kind="exact", value="POST"))),
    authority=rarely(st.just(StringMatch(kind="prefix", value="web"))),
    headers=st.lists(headers, max_size=2).map(tuple),
    query=rarely(st.builds(NamedMatch, name=st.just("q"), match=values)).map(lambda named: (named,) if named is not None else ()),
    source=rarely(sources),
)


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[RuleSpec, ...]:
    count = draw(st.integers(0, 14))
    refs = st.builds(ClusterRef, cluster=st.just("c"), by_namespace=st.sampled_from([{}, {}, {"other": "c@other"}]))
    return tuple(
        RuleSpec(name=f"r{i}", matches=tuple(draw(st.lists(entries, max_size=2))), action=ForwardSpec(clusters=(draw(refs),)))
        for i in range(count)
    )


@st.composite
def configurations(draw: st.DrawFn) -> Specs:
    rule_sets = {
        f"set{i}": RuleSetSpec(
            name=f"set{i}",
            namespace=draw(st.sampled_from(NAMESPACES)),
            rules=draw(rule_lists()),
            export_to=draw(st.sampled_from([(), (), ("default",), NAMESPACES])),
        )
        for i in range(draw(st.integers(0, 3)))
    }
    candidates = st.lists(
        st.builds(CandidateSpec, rule_set=st.sampled_from(["set0", "set1", "set2"]), rank=st.integers(0, 1)), max_size=3
    ).map(tuple)
    hosts: dict[str, VirtualHostSpec] = {}
    for name, namespace in (("web", "default"), ("api", "default"), ("web", "other"), ("*", ""), ("*.x", "")):
        for port in PORTS:
            if not draw(st.booleans()):
                continue
            service = bool(namespace)
            fqdn = f"{name}.{namespace}" if service else name
            default = ClusterRef(cluster=f"d|{fqdn}|{port}") if service else None
            hosts[f"{fqdn}:{port}"] = VirtualHostSpec(
                name=fqdn,
                port=port,
                domains=(fqdn, f"{fqdn}.x") if service and port == 80 else (fqdn,),
                short_name=name if service else "",
                namespace=namespace,
                candidates=draw(candidates),
                default=default,
            )
    listeners = {key: ListenerSpec(name=key, port=host.port, binds=(), virtual_host=key) for key, host in hosts.items()}
    listeners["shared"] = ListenerSpec(name="shared", port=0, binds=())
    return Specs(listeners=listeners, virtual_hosts=hosts, rule_sets=rule_sets, identities=IDENTITIES, callers=CALLERS)


heads = st.builds(
    Head,
    path=paths.map(str.encode),
    authority=st.sampled_from(
        ["", "web", "WEB:80", "api.default", "web.other:5000", "web.default.x.", "q.x", "z", "web.default:9"]
    ).map(str.encode),
    method=st.sampled_from([b"GET", b"POST"]),
    query=st.sampled_from([b"", b"q", b"q=a&q=b", b"z=a&q=b", b"qq=a"]),
    headers=st.dictionaries(st.sampled_from([b"x-a", b"x-b"]), st.sampled_from([b"", b"a", b"b", b"ab"]), max_size=2),
)
addresses = st.sampled_from([*CALLERS, "10.9.9.9"])


def table_for(*states: Specs) -> RouteTable:
    table, before = RouteTable(), Specs()
    for version, state in enumerate(states, 1):
        change = diff(before, state, version)
        if change is not None:
            table.apply(change)
        before = state
    return table


def compare(table: RouteTable, specs: Specs, requests: list[tuple[Head, str]]) -> None:
    for name, listener in specs.listeners.items():
        for head, address in requests:
            identity = IDENTITIES.get(CALLERS.get(address, ""))
            assert compiled(table, name, head, address) == naive(specs, listener, head, identity), (name, head, address)


requests_to_try = st.lists(st.tuples(heads, addresses), min_size=1, max_size=8)


@PATIENT
@given(configurations(), requests_to_try)
def test_the_compiled_table_is_the_naive_matcher(specs: Specs, requests: list[tuple[Head, str]]) -> None:
    compare(table_for(specs), specs, requests)


@PATIENT
@given(configurations(), configurations(), requests_to_try)
def test_how_a_configuration_was_reached_does_not_matter(before: Specs, after: Specs, requests: list[tuple[Head, str]]) -> None:
    table = table_for(before)
    compare(table, before, requests)  # fills the caches
    change = diff(before, after, 2)
    if change is not None:
        table.apply(change)
    compare(table, after, requests)


@PATIENT
@given(rule_lists(), st.lists(heads, min_size=1, max_size=10))
def test_a_rule_list_is_the_naive_loop(rules: tuple[RuleSpec, ...], requests: list[Head]) -> None:
    host = VirtualHostSpec(name="*", port=80, domains=("*",), candidates=(CandidateSpec(rule_set="set"),))
    specs = Specs(
        listeners={"l": ListenerSpec(name="l", port=80, binds=(), virtual_host="h")},
        virtual_hosts={"h": host},
        rule_sets={"set": RuleSetSpec(name="set", namespace="default", rules=rules)},
    )
    compare(table_for(specs), specs, [(head, "10.9.9.9") for head in requests])


# Clusters and weights.

endpoint_sets = st.lists(
    st.builds(
        EndpointSpec,
        address=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]),
        port=st.just(80),
        uid=st.sampled_from(["", "u"]),
        weight=st.integers(0, 3),
        draining=st.booleans(),
    ),
    max_size=6,
)


@PATIENT
@given(st.lists(endpoint_sets, min_size=1, max_size=4), st.sampled_from(get_args(BalancerKind)), st.integers(0, 2**32), st.data())
def test_a_cluster_follows_its_endpoints(updates: list[list[EndpointSpec]], kind: Any, seed: int, data: st.DataObject) -> None:
    cluster, rng = Cluster(ClusterSpec(name="c", service="s", balancer=kind)), random.Random(seed)
    for specs in updates:
        before = {(member.address, member.spec.uid): member for member in cluster.endpoints}
        removed = cluster.update(specs)
        wanted = {(spec.address, spec.uid): spec for spec in reversed(specs)}
        assert {(member.address, member.spec.uid): member.spec for member in cluster.endpoints} == wanted
        assert {key for key in before if key not in wanted} == {(member.address, member.spec.uid) for member in removed}
        for member in cluster.endpoints:
            assert before.get((member.address, member.spec.uid), member) is member
        usable = [member for member in cluster.endpoints if not member.spec.draining] or cluster.endpoints
        tried = data.draw(st.sets(st.sampled_from(cluster.endpoints))) if cluster.endpoints else set()
        for _ in range(5):
            picked = cluster.pick(rng, tried)
            if not usable:
                assert picked is None
            else:
                assert picked in usable
                assert picked not in tried or tried.issuperset(usable)


@pytest.mark.parametrize("kind", get_args(BalancerKind))
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4), (100, 1)], ids=str)
def test_balancers_share_out_by_weight(kind: Any, weights: tuple[int, ...]) -> None:
    cluster, rng, picks = Cluster(ClusterSpec(name="c", service="s", balancer=kind)), random.Random(2026), 20_200
    cluster.update([EndpointSpec(address=str(index), port=1, weight=weight) for index, weight in enumerate(weights)])
    counts = Counter(cluster.pick(rng) for _ in range(picks))
    expected = [picks * weight / sum(weights) for weight in weights]
    chi_square = sum((counts[member] - want) ** 2 / want for member, want in zip(cluster.endpoints, expected, strict=True))
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001
