# SPDX-License-Identifier: Apache-2.0
"""Facts about what is said of all Services and of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from acmgproxy.endpoint_state import EndpointState
from acmgproxy.overview import detail, summary
from acmgproxy.overview.detail import clusters_of, describe_service, find_service
from acmgproxy.overview.summary import describe_services
from routing.specs import (
    CandidateSpec,
    ClusterRef,
    ClusterSpec,
    DirectResponseSpec,
    EndpointSpec,
    ForwardSpec,
    ListenerSpec,
    MatchSpec,
    OriginSpec,
    RuleSetSpec,
    RuleSpec,
    Specs,
    StringMatch,
    VirtualHostSpec,
)  # fmt: skip
from tests.unit.acmgproxy.overview.traffic import IDENTITIES, REVIEWS, Traffic, cluster

if TYPE_CHECKING:
    import pytest

HOST = f"{REVIEWS}:80"
ENDPOINTS = (
    EndpointSpec(address="10.0.0.1", port=80, identity="v1", locality="r/zone-a"),
    EndpointSpec(address="10.0.0.2", port=80, identity="v2", draining=True),
    EndpointSpec(address="10.0.0.3", port=80, identity="left"),
)


def to(subset: str, weight: int = 1, **by_namespace: str) -> ClusterRef:
    return ClusterRef(cluster=cluster(subset), weight=weight, by_namespace=by_namespace)


def specs(*rules: RuleSpec, export_to: tuple[str, ...] = ()) -> Specs:
    def spec(name: str, subset: str) -> ClusterSpec:
        return ClusterSpec(name=name, service=REVIEWS, service_name="reviews", service_namespace="shop", port=80, subset=subset)

    return Specs(
        listeners={
            HOST: ListenerSpec(name=HOST, port=80, binds=(), virtual_host=HOST),
            "shared": ListenerSpec(name="shared", port=0, binds=()),
        },
        virtual_hosts={
            HOST: VirtualHostSpec(
                name=REVIEWS, port=80, domains=(), default=to(""),
                candidates=(CandidateSpec(rule_set="gone"), CandidateSpec(rule_set="reviews")),
            ),
        },
        rule_sets={"reviews": RuleSetSpec(name="reviews", namespace="shop", rules=rules, export_to=export_to)},
        clusters={cluster(subset): spec(cluster(subset), subset) for subset in ("", "v1", "v2")},
        endpoints={cluster(): ENDPOINTS, cluster("v1"): ENDPOINTS[:1], "outbound|1||none": ENDPOINTS},
        identities=IDENTITIES,
    )  # fmt: skip


def described(config: Specs, traffic: Traffic, states: dict[int, list[EndpointState]] | None = None) -> dict[str, Any]:
    traffic.report()
    traffic.clock.now += 10.0
    found = describe_service(config, traffic.history, traffic.history.window(), REVIEWS, states or {})
    orjson.dumps(found)
    return found


SPLIT = RuleSpec(
    action=ForwardSpec(clusters=(to("v1", 3), to("v2", 1))), origin=OriginSpec(kind="VirtualService", namespace="shop", name="r")
)


def test_a_live_split_stands_beside_the_weights() -> None:
    traffic = Traffic()
    traffic.request(times=8, subset="v1")
    traffic.request(times=2, subset="v2", version="v2", status=503)
    found = described(specs(SPLIT), traffic)
    (route,) = found["routes"]  # the default route cannot be reached
    assert (route["port"], route["object"], route["rule"], route["action"]) == (80, "VirtualService shop/r", "rule 1", "forward")
    assert [
        (one["subset"], one["weight_share"], one["share"], one["requests"], one["is_shared"]) for one in route["destinations"]
    ] == [
        ("v1", 0.75, 0.8, 8, False),
        ("v2", 0.25, 0.2, 2, False),
    ]
    assert [(one["version"], one["requests"], one["rate"], one["errors"]) for one in found["destinations"]] == [
        ("v1", 8, 0.8, 0),
        ("v2", 2, 0.2, 2),
    ]
    assert [(one["code"], one["share"], one["error_ratio"]) for one in found["answers"]] == [(200, 0.8, 0.0), (503, 0.2, 1.0)]
    assert [(one["subset"], one["requests"]) for one in found["clusters"]] == [("v1", 8), ("v2", 2)]


def test_a_destination_that_several_rules_share_is_marked() -> None:
    condition = MatchSpec(method=StringMatch(kind="exact", value="POST"))
    testers = RuleSpec(name="testers", matches=(condition,), action=ForwardSpec(clusters=(to("v2"),)))
    found = described(specs(testers, SPLIT), Traffic())
    assert [[one["is_shared"] for one in route["destinations"]] for route in found["routes"]] == [[True], [False, True]]
    assert [one["share"] for one in found["routes"][1]["destinations"]] == [None, None]


def test_the_default_route_is_there_as_long_as_it_can_be_reached() -> None:
    direct = RuleSpec(name="no", matches=(MatchSpec(),), action=DirectResponseSpec(status=404))
    for config in (specs(direct), specs(SPLIT, export_to=("other",)), specs()):
        assert described(config, Traffic())["routes"][-1]["rule"] == "default route"
    no_origin = described(specs(direct), Traffic())["routes"][0]
    assert (no_origin["object"], no_origin["destinations"]) == ("reviews", [])


def test_variants_for_namespaces_count_for_their_destination() -> None:
    traffic = Traffic()
    traffic.request(times=3, subset="v2")
    rule = RuleSpec(action=ForwardSpec(clusters=(to("v1", 1, team=cluster("v2")),)))
    assert described(specs(rule), traffic)["routes"][0]["destinations"][0]["requests"] == 3


def test_an_unknown_destination_is_said_to_be() -> None:
    rule = RuleSpec(action=ForwardSpec(clusters=(ClusterRef(cluster="outbound|80||nowhere", weight=0),)))
    (destination,) = described(specs(rule), Traffic())["routes"][0]["destinations"]
    assert (destination["is_known"], destination["cluster"], destination["weight_share"]) == (False, "outbound|80||nowhere", 0.0)


def test_endpoints_are_added_up_over_workers_and_clusters_with_trouble_first() -> None:
    states = {
        0: [
            EndpointState(cluster(), "10.0.0.1", 80, active=1, requests=5),
            EndpointState(cluster("v1"), "10.0.0.1", 80, connections=2, idle=1, requests=7, failures=2),
            EndpointState(cluster(), "10.0.0.3", 80, ejected=True, ejections=2),
        ],
        1: [EndpointState(cluster(), "10.0.0.1", 80, active=2), EndpointState("gone", "10.0.0.3", 80, ejected=True)],
    }
    out, draining, fine = described(specs(SPLIT), Traffic(), states)["endpoints"]
    assert (out["address"], out["ejected_by"], out["ejected_from"], out["ejections"], out["workers"]) == (
        "10.0.0.3",
        [0, 1],
        [""],
        2,
        2,
    )
    assert (out["workload"], out["locality"]) == ("unknown", "")
    assert (draining["address"], draining["draining"], draining["ejected"]) == ("10.0.0.2", True, False)
    assert (fine["workload"], fine["locality"], fine["subsets"]) == ("reviews-v1", "r/zone-a", ["v1"])
    assert (fine["active"], fine["connections"], fine["idle"], fine["requests"], fine["failures"]) == (3, 2, 1, 12, 2)


def test_many_endpoints_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "MAX_ENDPOINTS", 1)
    found = described(specs(), Traffic())
    assert (len(found["endpoints"]), found["endpoints_left_out"]) == (1, 2)


def test_a_service_is_found_by_any_of_its_names() -> None:
    traffic = Traffic()
    traffic.request(service="other.shop.svc.cluster.local")
    traffic.report()
    for name in (REVIEWS, "shop/reviews", "reviews.shop"):
        assert find_service(specs(), traffic.history, name) == REVIEWS
    assert find_service(specs(), traffic.history, "shop/other") == "other.shop.svc.cluster.local"
    assert find_service(specs(), traffic.history, "shop/nobody") is None
    assert clusters_of(specs(), "other.shop.svc.cluster.local") == ()
    found = describe_service(specs(), traffic.history, traffic.history.window(), "other.shop.svc.cluster.local", {})
    assert (found["service"], found["routes"], found["endpoints"]) == ("other", [], [])


def test_all_services_are_listed_with_those_without_traffic_last() -> None:
    traffic = Traffic()
    traffic.request(times=4, service="other.shop.svc.cluster.local")
    traffic.step()
    ejected = {
        0: [EndpointState(cluster(), "10.0.0.1", 80), EndpointState("gone", "10.0.0.9", 80)],
        1: [EndpointState(cluster("v1"), "10.0.0.1", 80)],
    }
    found = describe_services(specs(), traffic.history, traffic.history.window(), ejected)
    orjson.dumps(found)
    other, reviews = found["services"]
    assert (other["service"], other["requests"], sum(other["buckets"]), other["endpoints"]) == ("other", 4, 4, 0)
    assert (reviews["name"], reviews["requests"], reviews["endpoints"], reviews["ejected"]) == (REVIEWS, 0, 2, 1)
    assert "buckets" not in reviews
    assert (other["curve"]["rate"], reviews["curve"]["rate"], reviews["curve"]["p99_ms"]) == ([0.8], [0], [None])
    assert (found["total"]["requests"], found["total"]["curve"]["p50_ms"]) == (4, [3.0])


def test_only_the_busiest_have_a_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_CURVES", 1)
    traffic = Traffic()
    traffic.request(service="other.shop.svc.cluster.local")
    traffic.step()
    found = describe_services(specs(), traffic.history, traffic.history.window(), {})
    assert ["curve" in one for one in found["services"]] == [True, False]
