# SPDX-License-Identifier: Apache-2.0
"""What it costs to find the route of a request: by number of hosts, by number and kind of rules, and by who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import parse_request_head
from bench.load import HEADERS
from routing.specs import (
    CandidateSpec,
    ClusterRef,
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
    SpecsDiff,
    StringMatch,
    VirtualHostSpec,
)
from routing.table import CompiledListener, RouteTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

    from acmgproxy.h1.request import RequestHead

_LIMITS = Limits()
_ACTION = ForwardSpec(clusters=(ClusterRef(cluster="c"),))
_HOST = "helloworld.default.svc.cluster.local"


def _head(path: str = "/hello", host: str = _HOST, *fields: str) -> RequestHead:
    raw = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *HEADERS[:6], *fields, "", ""])
    return parse_request_head(raw.encode(), _LIMITS)


def _rule(kind: str, number: int) -> RuleSpec:
    match kind:
        case "exact":
            match = MatchSpec(path=PathMatch(kind="exact", value=f"/hello/{number}"))
        case "prefix":
            match = MatchSpec(path=PathMatch(kind="prefix", value=f"/api/v{number}/"))
        case "regex":
            match = MatchSpec(path=PathMatch(kind="regex", value=f"/item{number}/[0-9]+"))
        case _:
            condition = StringMatch(kind="exact", value=f"user{number}")
            match = MatchSpec(headers=(NamedMatch(name="x-user", match=condition),))
    return RuleSpec(name=f"{kind}{number}", matches=(match,), action=_ACTION)


def _table(rules: list[RuleSpec], hosts: int = 1) -> tuple[RouteTable, CompiledListener]:
    names = [_HOST, *(f"service{number}.default.svc.cluster.local" for number in range(hosts - 1))]
    virtual_hosts = {
        f"{name}:80": VirtualHostSpec(
            name=name,
            port=80,
            domains=(name, name.removesuffix(".cluster.local"), name.removesuffix(".svc.cluster.local")),
            short_name=name.partition(".")[0],
            namespace="default",
            candidates=(CandidateSpec(rule_set="rules"),) if name == _HOST else (),
            default=ClusterRef(cluster="c"),
        )
        for name in names
    }
    table = RouteTable()
    specs = Specs(
        listeners={"l": ListenerSpec(name="l", port=80, binds=(), virtual_host=f"{_HOST}:80")},
        virtual_hosts=virtual_hosts,
        rule_sets={"rules": RuleSetSpec(name="rules", namespace="default", rules=tuple(rules))},
        identities={"id": IdentitySpec(namespace="default", labels={"app": "web"})},
        callers={"10.0.0.1": "id"},
    )
    table.apply(SpecsDiff(version=1, put=specs))
    return table, table.listeners["l"]


def _measure(benchmark: BenchmarkFixture, rules: list[RuleSpec], head: RequestHead, expected: str, address: str = "") -> None:
    table, listener = _table(rules)
    caller = table.caller(address)
    route = benchmark(table.match, listener, head, caller)
    assert route is not None
    assert route.name == expected


@pytest.mark.parametrize("hosts", [10, 1_000, 10_000])
def test_known_host(benchmark: BenchmarkFixture, hosts: int) -> None:
    """A Host value seen before; the owner has one exact rule."""
    table, listener = _table([_rule("exact", 0)], hosts)
    route = benchmark(table.match, listener, _head("/hello/0"), None)
    assert route is not None
    assert route.name == "exact0"


@pytest.mark.parametrize("hosts", [10, 1_000, 10_000])
def test_new_host(benchmark: BenchmarkFixture, hosts: int) -> None:
    """A Host value seen for the first time, as a hostile client would send them."""
    table, listener = _table([_rule("exact", 0)], hosts)
    head = _head("/hello/0")

    def match() -> object:
        listener.finders.clear()
        return table.match(listener, head, None)

    assert benchmark(match) is not None


def test_default_route(benchmark: BenchmarkFixture) -> None:
    """A Service without any rules."""
    _measure(benchmark, [], _head(), "default")


@pytest.mark.parametrize(("kind", "path"), [("exact", "/hello/0"), ("prefix", "/api/v0/users"), ("regex", "/item0/42")])
def test_one_rule(benchmark: BenchmarkFixture, kind: str, path: str) -> None:
    """One rule with a path condition."""
    _measure(benchmark, [_rule(kind, 0)], _head(path), f"{kind}0")


def test_exact_rule_and_rest(benchmark: BenchmarkFixture) -> None:
    """The commonest shape: one special path, everything else falls through."""
    _measure(benchmark, [_rule("exact", 0), RuleSpec(name="rest", action=_ACTION)], _head("/other"), "rest")


def test_canary_by_header(benchmark: BenchmarkFixture) -> None:
    """A header rule, a prefix rule and the rest; the last one wins."""
    rules = [_rule("header", 0), _rule("prefix", 0), RuleSpec(name="rest", action=_ACTION)]
    _measure(benchmark, rules, _head("/other", _HOST, "x-user: somebody"), "rest")


def _last(kind: str, count: int) -> RequestHead:
    paths: dict[str, Callable[[int], str]] = {
        "exact": "/hello/{}".format,
        "prefix": "/api/v{}/users".format,
        "regex": "/item{}/42".format,
    }
    if kind == "header":
        return _head("/", _HOST, f"x-user: user{count - 1}")
    return _head(paths[kind](count - 1))


@pytest.mark.parametrize("count", [1, 50, 500])
@pytest.mark.parametrize("kind", ["exact", "prefix", "regex", "header"])
def test_many_rules(benchmark: BenchmarkFixture, kind: str, count: int) -> None:
    """Rules of one kind; the last one matches."""
    _measure(benchmark, [_rule(kind, number) for number in range(count)], _last(kind, count), f"{kind}{count - 1}")


@pytest.mark.parametrize("count", [1, 50, 500])
def test_mixed_rules(benchmark: BenchmarkFixture, count: int) -> None:
    """Rules of all kinds in turn; none matches and the request falls through to the rest."""
    kinds = ("exact", "prefix", "regex", "header")
    rules = [_rule(kinds[number % 4], number) for number in range(count)]
    _measure(benchmark, [*rules, RuleSpec(name="rest", action=_ACTION)], _head("/other", _HOST, "x-user: nobody"), "rest")


@pytest.mark.parametrize("count", [2, 4, 5, 6, 8, 12])
@pytest.mark.parametrize("way", ["loop", "index"])
def test_loop_or_index(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, way: str, count: int) -> None:
    """Where the index begins to pay: the reason for routing.table.index.LINEAR_LIMIT."""
    monkeypatch.setattr("routing.table.index.LINEAR_LIMIT", 0 if way == "index" else count)
    kinds = ("exact", "prefix", "header")
    rules = [_rule(kinds[number % 3], number) for number in range(count - 1)]
    _measure(benchmark, [*rules, RuleSpec(name="rest", action=_ACTION)], _head("/other", _HOST, "x-user: nobody"), "rest")


def test_source_condition(benchmark: BenchmarkFixture) -> None:
    """A host whose rules depend on the caller."""
    mine = MatchSpec(source=SourceMatch(labels={"app": "web"}))
    _measure(benchmark, [RuleSpec(name="mine", matches=(mine,), action=_ACTION)], _head(), "mine", "10.0.0.1")


def test_short_name(benchmark: BenchmarkFixture) -> None:
    """A bare Service name, valid in the caller's namespace only."""
    _measure(benchmark, [RuleSpec(name="rest", action=_ACTION)], _head("/", "helloworld"), "rest", "10.0.0.1")


@pytest.mark.parametrize("hosts", [1_000, 10_000])
def test_apply_rule_change(benchmark: BenchmarkFixture, hosts: int) -> None:
    """A person edits one rule set: nothing may depend on the number of hosts."""
    table, _ = _table([_rule("exact", 0)], hosts)
    rules = RuleSetSpec(name="rules", namespace="default", rules=tuple(_rule("prefix", number) for number in range(5)))
    benchmark(table.apply, SpecsDiff(version=2, put=Specs(rule_sets={"rules": rules})))
