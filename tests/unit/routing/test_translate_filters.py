# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: faults, cross-origin policies, mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.specs import CorsSpec, FaultSpec, ForwardSpec, MirrorSpec, StringMatch
from tests.unit.routing.objects import (
    codes,
    destination_rule,
    rule_of,
    rules_of,
    service,
    subset,
    to,
    translated,
    virtual_service,
)

if TYPE_CHECKING:
    from routing.translate import Translation

B = "b.default.svc.cluster.local"
C = "c.default.svc.cluster.local"


def _translated(**blocks: Any) -> Translation:
    return translated(service("b"), service("c"), virtual_service("vs", ["b"], {"route": [to("b")], **blocks}))


def _mirrors(translation: Translation) -> tuple[MirrorSpec, ...]:
    (rule,) = rules_of(translation)
    assert isinstance(rule.action, ForwardSpec)
    return rule.action.mirrors


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            {
                "delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}},
                "abort": {"httpStatus": 503, "percentage": {"value": 100}},
            },
            FaultSpec(delay_s=2.0, delay_percent=0.5, abort_status=503, abort_percent=100.0),
        ),
        ({"delay": {"fixedDelay": "2s", "percentage": {"value": 5}}}, FaultSpec(delay_s=2.0, delay_percent=5.0)),
        ({"abort": {"httpStatus": 400, "percent": 7}}, FaultSpec(abort_status=400, abort_percent=7.0)),
        ({"abort": {"httpStatus": 400}}, None),
        ({"abort": {"httpStatus": 400, "percentage": {}}}, None),
        ({"delay": {"fixedDelay": "1s", "percentage": {"value": 0}, "percent": 50}}, None),
        ({"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 100}}}, None),
        ({"delay": {"exponentialDelay": "1s", "percentage": {"value": 100}}}, None),
    ],
)
def test_faults(fault: dict[str, Any], expected: FaultSpec | None) -> None:
    assert rule_of({"route": [to("b")], "fault": fault}).fault == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"abort": {"httpStatus": 400}}, ("ACMG014", "abort.percentage")),
        ({"delay": {"fixedDelay": "1s", "percent": 1}}, ("ACMG013", "delay.percent")),
        ({"abort": {"grpcStatus": "X", "percentage": {"value": 1}}}, ("ACMG001", "abort.grpcStatus")),
        ({"abort": {"http2Error": "X", "percentage": {"value": 1}}}, ("ACMG001", "abort.http2Error")),
    ],
)
def test_findings_about_faults(fault: dict[str, Any], expected: tuple[str, str]) -> None:
    assert codes(_translated(fault=fault)) == [(expected[0], "default/vs", f"spec.http[0].fault.{expected[1]}")]


def test_a_cross_origin_policy() -> None:
    policy = {
        "allowOrigins": [{"exact": "http://a"}, {"prefix": "http://b"}, {"regex": "http://c.*"}, {"exact": "*"}],
        "allowMethods": ["GET", "POST"],
        "allowHeaders": ["x-a", "X-B"],
        "exposeHeaders": ["x-c"],
        "maxAge": "24h",
        "allowCredentials": True,
        "unmatchedPreflights": "IGNORE",
    }
    assert rule_of({"route": [to("b")], "corsPolicy": policy}).cors == CorsSpec(
        allow_origins=(
            StringMatch(kind="exact", value="http://a"),
            StringMatch(kind="prefix", value="http://b"),
            StringMatch(kind="regex", value="http://c.*"),
            StringMatch(kind="regex", value=".*"),
        ),
        allow_methods="GET,POST",
        allow_headers="x-a,X-B",
        expose_headers="x-c",
        max_age="86400",
        allow_credentials=True,
    )
    assert rule_of({"route": [to("b")], "corsPolicy": {}}).cors == CorsSpec()
    assert rule_of({"route": [to("b")]}).cors is None


def test_the_deprecated_list_of_origins_counts_alone() -> None:
    found = _translated(corsPolicy={"allowOrigin": ["http://a", "*"]})
    assert rules_of(found)[0].cors == CorsSpec(
        allow_origins=(StringMatch(kind="exact", value="http://a"), StringMatch(kind="regex", value=".*"))
    )
    assert codes(found) == [("ACMG013", "default/vs", "spec.http[0].corsPolicy.allowOrigin")]
    both = _translated(corsPolicy={"allowOrigin": ["http://a"], "allowOrigins": [{"exact": "http://b"}]})
    assert rules_of(both)[0].cors == CorsSpec(allow_origins=(StringMatch(kind="exact", value="http://b"),))
    assert "goes first" in both.diagnostics[0].message


@pytest.mark.parametrize(
    ("share", "percent"),
    [
        ({}, 100.0),
        ({"mirrorPercentage": {"value": 0.5}}, 0.5),
        ({"mirrorPercentage": {"value": 5}, "mirrorPercent": 7}, 5.0),
        ({"mirrorPercent": 7, "mirror_percent": 8}, 7.0),
        ({"mirror_percent": 8}, 8.0),
    ],
)
def test_one_mirror(share: dict[str, Any], percent: float) -> None:
    found = _translated(mirror={"host": "c"}, **share)
    assert _mirrors(found) == (MirrorSpec(cluster=f"outbound|80||{C}", percent=percent),)
    assert {field for code, _, field in codes(found) if code == "ACMG013"} == {
        f"spec.http[0].{name}" for name in share if name != "mirrorPercentage"
    }


@pytest.mark.parametrize("share", [{"mirrorPercentage": {}}, {"mirrorPercent": 0}])
def test_a_mirror_of_nothing_is_none(share: dict[str, Any]) -> None:
    assert _mirrors(_translated(mirror={"host": "c"}, **share)) == ()


def test_several_mirrors() -> None:
    mirrors = [
        {"destination": {"host": "c", "port": {"number": 8080}}},
        {"destination": {"host": "c"}, "percentage": {"value": 10}},
        {"destination": {"host": "ghost"}},
        {"destination": {"host": "c"}, "percentage": {"value": 0}},
    ]
    found = _translated(mirrors=mirrors)
    assert _mirrors(found) == (
        MirrorSpec(cluster=f"outbound|8080||{C}"),
        MirrorSpec(cluster=f"outbound|80||{C}", percent=10.0),
    )
    assert codes(found) == [("IST0101", "default/vs", "spec.http[0].mirrors[2].destination.host")]


def test_a_mirror_has_subsets_and_variants() -> None:
    found = translated(
        service("b"),
        destination_rule("dr", "b", subset("v1")),
        destination_rule("own", B, subset("v1"), namespace="other"),
        virtual_service("vs", ["b"], {"route": [to("b")], "mirror": {"host": "b", "subset": "v1"}}),
    )
    assert _mirrors(found) == (MirrorSpec(cluster=f"outbound|80|v1|{B}", by_namespace={"other": f"outbound|80|v1|{B}@other"}),)


def test_a_share_without_a_mirror() -> None:
    assert codes(_translated(mirrorPercentage={"value": 1})) == [("ACMG014", "default/vs", "spec.http[0].mirrorPercentage")]


@pytest.mark.parametrize("token", ["retriable-headers", "http3-post-connect-failure"])
def test_retry_conditions_that_never_hold(token: str) -> None:
    found = _translated(retries={"attempts": 1, "retryOn": f"5xx,{token}"})
    assert codes(found) == [("ACMG001", "default/vs", "spec.http[0].retries.retryOn")]
