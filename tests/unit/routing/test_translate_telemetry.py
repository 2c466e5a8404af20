# SPDX-License-Identifier: Apache-2.0
"""Facts about Telemetry objects: which requests they are about, what they amount to together, what is reported."""

from __future__ import annotations

from typing import Any

import pytest

from routing.specs import ComparisonSpec, TelemetrySpec
from tests.unit.routing.objects import codes, endpoint, endpoint_slice, service, telemetry, translated

Obj = dict[str, Any]

A = "a.default.svc.cluster.local"
ON: Obj = {"accessLogging": [{}]}
OFF: Obj = {"accessLogging": [{"disabled": True}]}
ROOT = "istio-system"
FAILED = ComparisonSpec(of="status", operator=">=", value=500)


def specs(*objects: Obj) -> dict[str, TelemetrySpec]:
    return translated(service("a", selector={"app": "a", "tier": "web"}), service("b"), *objects).specs.telemetry


def findings(*objects: Obj) -> list[tuple[str, str]]:
    world = translated(service("a", selector={"app": "a", "tier": "web"}), *objects)
    return [(code, field) for code, _, field in codes(world) if code != "ACMG008"]


class TestScope:
    def test_without_any_there_is_nothing(self) -> None:
        assert specs() == {}

    def test_a_namespace(self) -> None:
        assert specs(telemetry(**ON)) == {"default": TelemetrySpec(logged=True)}

    def test_the_mesh(self) -> None:
        assert specs(telemetry(namespace=ROOT, **ON)) == {"": TelemetrySpec(logged=True)}

    def test_a_service_by_name(self) -> None:
        assert specs(telemetry(targetRefs=[{"kind": "Service", "name": "a"}], **ON)) == {A: TelemetrySpec(logged=True)}

    def test_services_by_labels_that_their_own_selectors_have(self) -> None:
        assert specs(telemetry(selector={"matchLabels": {"app": "a"}}, **ON)) == {A: TelemetrySpec(logged=True)}
        assert specs(telemetry(selector={"matchLabels": {"app": "a", "version": "1"}}, **ON)) == {}

    def test_only_of_its_namespace(self) -> None:
        other = service("a", "other", selector={"app": "a"})
        assert set(specs(other, telemetry(selector={"matchLabels": {"app": "a"}}, **ON))) == {A}

    def test_pods_of_a_headless_service_are_meant_with_it(self) -> None:
        headless = service("h", clusterIP="None")
        members = endpoint_slice("h", endpoint("10.0.0.1", hostname="h-0"))
        found = specs(headless, members, telemetry(targetRef={"kind": "Service", "name": "h"}, **ON))
        assert set(found) == {"h.default.svc.cluster.local", "h-0.h.default.svc.cluster.local"}


class TestTogether:
    def test_the_nearest_has_the_last_word(self) -> None:
        found = specs(
            telemetry(namespace=ROOT, **ON),
            telemetry(**OFF),
            telemetry("one", targetRefs=[{"kind": "Service", "name": "a"}], **ON),
        )
        assert {key: spec.logged for key, spec in found.items()} == {"": True, "default": False, A: True}

    def test_each_part_of_tracing_for_itself(self) -> None:
        found = specs(
            telemetry(namespace=ROOT, tracing=[{"randomSamplingPercentage": 50}]),
            telemetry(tracing=[{"disableSpanReporting": True}]),
            telemetry("one", selector={"matchLabels": {"app": "a"}}, tracing=[{"disableSpanReporting": False}]),
        )
        assert found == {
            "": TelemetrySpec(sampling=0.5),
            "default": TelemetrySpec(sampling=0.5, traced=False),
            A: TelemetrySpec(sampling=0.5),
        }

    def test_a_filter_goes_with_its_entry(self) -> None:
        filtered: Obj = {"accessLogging": [{"filter": {"expression": "response.code >= 500"}}]}
        assert specs(telemetry(namespace=ROOT, **filtered), telemetry(**ON)) == {
            "": TelemetrySpec(logged=True, log_filter=((FAILED,),)),
            "default": TelemetrySpec(logged=True),
        }

    def test_of_one_object_the_last_entry_decides(self) -> None:
        assert specs(telemetry(accessLogging=[{"disabled": True}, {}])) == {"default": TelemetrySpec(logged=True)}

    def test_what_says_no_more_than_the_wider_one_is_left_out(self) -> None:
        same = telemetry("one", targetRefs=[{"kind": "Service", "name": "a"}], **ON)
        assert specs(telemetry(namespace=ROOT, **ON), telemetry(**ON), same) == {"": TelemetrySpec(logged=True)}
        assert specs(telemetry(metrics=[{}])) == {}

    def test_of_several_for_the_same_the_oldest_holds(self) -> None:
        young, old = telemetry("a", created="2024-01-02", **ON), telemetry("b", created="2024-01-01", **OFF)
        assert specs(young, old) == {"default": TelemetrySpec(logged=False)}
        assert findings(young, old) == [("ACMG028", "spec")]

    def test_and_so_of_several_for_one_service(self) -> None:
        target: Obj = {"targetRef": {"kind": "Service", "name": "a"}}
        young = telemetry("a", created="2024-01-02", **target, **ON)
        old = telemetry("b", created="2024-01-01", selector={"matchLabels": {"app": "a"}}, **OFF)
        assert specs(young, old) == {A: TelemetrySpec(logged=False)}
        assert findings(young, old) == [("ACMG028", "spec")]


class TestWithoutEffect:
    @pytest.mark.parametrize(
        ("entry", "field"),
        [
            ({"match": {"mode": "CLIENT"}}, "match.mode"),
            ({"providers": [{"name": "otel"}]}, "providers"),
            ({"filter": {"expression": "connection.mtls"}}, "filter.expression"),
        ],
    )
    def test_an_entry_that_is_not_used_leaves_it_to_the_others(self, entry: Obj, field: str) -> None:
        assert specs(telemetry(accessLogging=[{"disabled": True}, entry])) == {"default": TelemetrySpec(logged=False)}
        assert findings(telemetry(accessLogging=[entry])) == [("ACMG027", f"spec.accessLogging[0].{field}")]

    def test_one_of_several_providers_may_be_ours(self) -> None:
        entry = {"providers": [{"name": "otel"}, {"name": "envoy"}], "match": {"mode": "SERVER"}}
        assert specs(telemetry(accessLogging=[entry])) == {"default": TelemetrySpec(logged=True)}
        assert findings(telemetry(accessLogging=[entry])) == [("ACMG027", "spec.accessLogging[0].providers")]

    def test_tracing_for_the_client_s_side(self) -> None:
        entry = {"match": {"mode": "CLIENT"}, "randomSamplingPercentage": 100}
        assert specs(telemetry(tracing=[entry])) == {}
        assert findings(telemetry(tracing=[entry])) == [("ACMG027", "spec.tracing[0].match.mode")]

    def test_providers_of_tracing_and_metrics(self) -> None:
        one = telemetry(tracing=[{"providers": [{"name": "zipkin"}]}], metrics=[{"overrides": []}])
        assert findings(one) == [("ACMG001", "spec.metrics"), ("ACMG021", "spec.tracing[0].providers")]

    @pytest.mark.parametrize(
        ("spec", "code", "field"),
        [
            ({"targetRefs": [{"kind": "Service", "name": "nobody"}]}, "ACMG029", "spec.targetRefs[0]"),
            ({"targetRef": {"kind": "Service", "name": "nobody", "group": "core"}}, "ACMG029", "spec.targetRef"),
            ({"targetRef": {"kind": "Gateway", "name": "g", "group": "gateway.networking.k8s.io"}}, "ACMG027", "spec.targetRef"),
            ({"targetRef": {"kind": "Pod", "name": "p"}}, "ACMG027", "spec.targetRef"),
            ({"selector": {"matchLabels": {"app": "nobody"}}}, "ACMG029", "spec.selector.matchLabels"),
        ],
    )
    def test_who_is_not_there(self, spec: Obj, code: str, field: str) -> None:
        assert specs(telemetry(**spec, **ON)) == {}
        assert findings(telemetry(**spec, **ON)) == [(code, field)]
