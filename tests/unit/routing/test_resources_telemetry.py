# SPDX-License-Identifier: Apache-2.0
"""Facts about Telemetry: what is read, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from routing.resources import FieldNote, ResourceError, Telemetry, decode
from tests.unit.routing.objects import telemetry

SERVICE = {"kind": "Service", "name": "a"}


def decoded(**spec: Any) -> Telemetry:
    found = decode(telemetry(**spec))
    assert isinstance(found, Telemetry)
    return found


def test_what_is_read() -> None:
    found = decoded(
        selector={"matchLabels": {"app": "a"}},
        accessLogging=[{"filter": {"expression": "response.code >= 500"}, "providers": [{"name": "envoy"}]}],
        tracing=[{"randomSamplingPercentage": 10, "match": {"mode": "SERVER"}}],
    )
    (logging,), (tracing,) = found.spec.access_logging, found.spec.tracing
    assert found.spec.selector.match_labels == {"app": "a"}
    assert (logging.filter.expression, logging.disabled, logging.match.mode) == (
        "response.code >= 500",
        False,
        "CLIENT_AND_SERVER",
    )
    assert (tracing.random_sampling_percentage, tracing.disable_span_reporting, tracing.match.mode) == (10.0, None, "SERVER")
    assert found.targets == ()


def test_targets_go_by_either_field() -> None:
    assert [one.name for one in decoded(targetRefs=[SERVICE, {**SERVICE, "name": "b", "group": "core"}]).targets] == ["a", "b"]
    assert [one.name for one in decoded(targetRef=SERVICE).targets] == ["a"]


def test_fields_without_effect_are_noted() -> None:
    found = decoded(metrics=[{"overrides": [{"disabled": True}]}], tracing=[{"customTags": {}}], acessLogging=[])
    assert set(found.notes) == {
        FieldNote("spec.metrics", "unsupported"),
        FieldNote("spec.tracing[0].customTags", "unsupported"),
        FieldNote("spec.acessLogging", "unknown"),
    }


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"targetRef": SERVICE, "targetRefs": [SERVICE]}, "spec.targetRef"),
        ({"targetRefs": [SERVICE], "selector": {"matchLabels": {"a": "b"}}}, "spec.selector"),
        ({"selector": {"matchLabels": {"a": "b*"}}}, "spec.selector.matchLabels.a"),
        ({"selector": {"matchLabels": {"": "b"}}}, "spec.selector.matchLabels."),
        ({"selector": {"labels": {"a": "b"}}}, "spec.selector.labels"),
        ({"targetRefs": [{**SERVICE, "namespace": "elsewhere"}]}, "spec.targetRefs[0].namespace"),
        ({"targetRef": {**SERVICE, "name": ""}}, "spec.targetRef.name"),
        ({"targetRef": {**SERVICE, "kind": ""}}, "spec.targetRef.kind"),
        ({"accessLogging": [{"filter": {"expresion": "x"}}]}, "spec.accessLogging[0].filter.expresion"),
        ({"accessLogging": [{}, {"providers": [{"name": ""}]}]}, "spec.accessLogging[1].providers[0].name"),
        ({"tracing": [{"providers": [{"name": ""}]}]}, "spec.tracing[0].providers[0].name"),
        ({"tracing": [{"randomSamplingPercentage": 101}]}, "spec.tracing[0].randomSamplingPercentage"),
        ({"tracing": [{"match": {"mode": "BOTH"}}]}, "spec.tracing[0].match.mode"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ResourceError) as caught:
        decoded(**spec)
    assert caught.value.field == field


def test_a_target_in_its_own_namespace_may_say_so() -> None:
    assert decoded(targetRefs=[{**SERVICE, "namespace": "default"}]).targets[0].name == "a"
