# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.filters import Cors, Fault
from routing.headers import HeaderError
from routing.specs import (
    ClusterRef,
    CorsSpec,
    DirectResponseSpec,
    FaultSpec,
    HeaderOps,
    MatchSpec,
    MirrorSpec,
    PathRewrite,
    RedirectSpec,
    RetrySpec,
    RuleSpec,
    SourceMatch,
)
from routing.table.rule_set import CompiledRule, CompiledRuleSet
from tests.unit.routing.table_kit import Head, add_ops, forward, path, rule, rule_set, table_of

if TYPE_CHECKING:
    from routing.table import Route


def route_of(spec: RuleSpec, head: Head | None = None) -> Route:
    table = table_of(spec)
    (listener,) = table.listeners.values()
    route = table.match(listener, head or Head(), None)
    assert route is not None
    return route


def test_a_route_carries_what_the_rule_says() -> None:
    retry = RetrySpec(attempts=5, retry_on=("5xx",))
    action = forward("web", timeout_s=2.5, retry=retry, path_rewrite=PathRewrite(kind="prefix", value="/y"))
    route = route_of(rule("r", MatchSpec(path=path("prefix", "/x")), action=action), Head(b"/x/1"))
    assert (route.timeout_s, route.retry.attempts, route.reply) == (2.5, 5, None)
    assert route.rewrite is not None
    assert route.rewrite(b"/x/1") == b"/y/1"


def test_each_entry_rewrites_its_own_prefix() -> None:
    action = forward("web", path_rewrite=PathRewrite(kind="prefix", value="/"))
    spec = rule("r", MatchSpec(path=path("prefix", "/a/")), MatchSpec(path=path("prefix", "/bb/")), action=action)
    for asked in (b"/a/x", b"/bb/x"):
        route = route_of(spec, Head(asked))
        assert route.rewrite is not None
        assert route.rewrite(asked) == b"/x"


def test_the_default_retry_policy_is_shared() -> None:
    assert route_of(rule("a")).retry is route_of(rule("b")).retry


def test_a_redirect_replies_and_does_not_retry() -> None:
    route = route_of(rule("r", action=RedirectSpec(authority="c"), response_headers=add_ops("x-a", "1")))
    assert route.reply is not None
    assert route.reply.render(Head(b"/p"), 80) == (301, [(b"location", b"http://c/p")], b"")
    assert (route.destinations, route.single, route.retry.attempts) == ((), None, 0)
    assert route.response_ops is not None
    assert route.response_ops.lines == b"x-a: 1\r\n"
    assert repr(route) == "Route('r', Redirect(301))"


def test_a_direct_response_replies() -> None:
    route = route_of(rule("r", action=DirectResponseSpec(status=503, body=b"off")))
    assert route.reply is not None
    assert route.reply.render(Head(), 80)[0] == 503


def test_a_rule_without_destinations_leads_to_an_unknown_cluster() -> None:
    (destination,) = route_of(rule("r", action=forward())).destinations
    assert destination.cluster is None


def test_a_negative_weight_is_none() -> None:
    assert [d.weight for d in route_of(rule("r", action=forward(ClusterRef(cluster="a", weight=-1), "b"))).destinations] == [0, 1]


RULE_OPS = HeaderOps(set=(("x-a", "rule"),), add=(("x-b", "rule"),))
DESTINATION_OPS = HeaderOps(remove=("x-b",), set=(("x-a", "destination"),))


def test_with_one_destination_both_levels_run_as_one_and_the_destination_wins() -> None:
    ref = ClusterRef(cluster="web", request_headers=DESTINATION_OPS, response_headers=DESTINATION_OPS)
    route = route_of(rule("r", action=forward(ref), request_headers=RULE_OPS, response_headers=RULE_OPS))
    for program in (route.destinations[0].request_ops, route.destinations[0].response_ops):
        assert program is not None
        assert program.lines == b"x-a: destination\r\nx-b: rule\r\n"
        assert program.drop == {b"x-a", b"x-b"}
    assert route.response_ops is not None
    assert route.response_ops.lines == b"x-a: rule\r\nx-b: rule\r\n"


def test_with_several_destinations_the_rule_runs_last_and_wins() -> None:
    ref = ClusterRef(cluster="web", request_headers=DESTINATION_OPS)
    first, second = route_of(rule("r", action=forward(ref, "other"), request_headers=RULE_OPS)).destinations
    assert first.request_ops is not None
    assert second.request_ops is not None
    assert first.request_ops.lines == b"x-a: rule\r\nx-b: rule\r\n"
    assert second.request_ops.drop == {b"x-a"}


@pytest.mark.parametrize(
    ("rewrite", "rule_host", "ref_rewrite", "ref_host", "expected"),
    [
        ("a", "b", "c", "d", b"a"),
        ("", "b", "c", "d", b"b"),
        ("", "", "c", "d", b"c"),
        ("", "", "", "d", b"d"),
        ("", "", "", "", b""),
    ],
)
def test_host_rewrites_have_an_order(rewrite: str, rule_host: str, ref_rewrite: str, ref_host: str, expected: bytes) -> None:
    def ops(host: str) -> HeaderOps:
        return HeaderOps(set=(("host", host),) if host else (), remove=("x-a",))

    ref = ClusterRef(cluster="web", host_rewrite=ref_rewrite, request_headers=ops(ref_host))
    spec = rule("r", action=forward(ref, host_rewrite=rewrite), request_headers=ops(rule_host))
    (destination,) = route_of(spec).destinations
    assert destination.host_rewrite == expected
    assert destination.request_ops is not None
    assert destination.request_ops.host == expected


def test_a_host_rewrite_cannot_smuggle_a_line() -> None:
    with pytest.raises(HeaderError):
        CompiledRule(rule("r", action=forward("web", host_rewrite="a\r\nx: y")))


def test_what_depends_on_the_caller() -> None:
    by_source = rule("r", MatchSpec(source=SourceMatch(namespace="a")))
    by_variant = rule("r", action=forward(ClusterRef(cluster="web", by_namespace={"a": "web@a"})))
    assert not CompiledRuleSet(rule_set(rule("r"))).depends_on_caller
    assert CompiledRuleSet(rule_set(by_source)).depends_on_caller
    assert CompiledRuleSet(rule_set(by_variant)).depends_on_caller
    assert CompiledRuleSet(rule_set(rule("r"), export_to=("a",))).depends_on_caller
    assert CompiledRuleSet(rule_set(by_variant)).cluster_names == {"web", "web@a"}


@pytest.mark.parametrize(
    ("namespace", "export_to", "caller", "expected"),
    [
        ("own", (), "own", 2),
        ("own", (), None, 2),
        ("own", ("own",), "own", 0),
        ("own", ("own", "other"), "other", 1),
        ("own", ("own",), "other", None),
        ("own", ("other",), "own", None),
        ("own", ("own",), None, None),
    ],
)
def test_visibility(namespace: str, export_to: tuple[str, ...], caller: str | None, expected: int | None) -> None:
    assert CompiledRuleSet(rule_set(namespace=namespace, export_to=export_to)).visibility(caller) == expected


def test_filters_belong_to_routes_that_forward() -> None:
    fault, cors = FaultSpec(abort_status=503, abort_percent=1.0), CorsSpec()
    assert route_of(rule("r")).filters == ()
    assert [type(each) for each in route_of(rule("r", fault=fault, cors=cors)).filters] == [Fault, Cors]
    assert route_of(rule("r", action=RedirectSpec(authority="c"), cors=cors)).filters == ()


def test_filters_that_cannot_be_compiled_are_refused() -> None:
    with pytest.raises(HeaderError):
        CompiledRule(rule("r", cors=CorsSpec(max_age="1\r\n")))


def test_mirrors_are_linked_like_destinations() -> None:
    mirrors = (MirrorSpec(cluster="web", percent=5.0), MirrorSpec(cluster="lost"), MirrorSpec(cluster="web", percent=0.0))
    route = route_of(rule("r", action=forward("web", mirrors=mirrors)))
    assert [(mirror.cluster_name, mirror.percent) for mirror in route.mirrors] == [("web", 5.0), ("lost", 100.0)]
    assert [mirror.cluster is None for mirror in route.mirrors] == [False, True]
    assert repr(route.mirrors) == "(Mirror('web', 5.0%), Mirror('lost', 100.0%, no cluster))"
    assert route_of(rule("r")).mirrors == ()


def test_mirrors_count_for_what_a_rule_set_depends_on() -> None:
    mirrored = rule("r", action=forward("web", mirrors=(MirrorSpec(cluster="m", by_namespace={"a": "m@a"}),)))
    compiled = CompiledRuleSet(rule_set(mirrored))
    assert compiled.depends_on_caller
    assert compiled.cluster_names == {"web", "m", "m@a"}
    assert compiled.rules[0].build_mirrors({}, "a")[0].cluster_name == "m@a"
    assert compiled.rules[0].build_mirrors({}, "b")[0].cluster_name == "m"


def test_repr_tells_the_size() -> None:
    assert repr(CompiledRuleSet(rule_set(rule("a"), rule("b")))) == "CompiledRuleSet('rules', 2 rules)"
