# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.translate: forwarding, redirects, direct responses, header operations."""

from __future__ import annotations

from typing import Any

import pytest

from routing.specs import ClusterRef, DirectResponseSpec, ForwardSpec, HeaderOps, PathRewrite, RedirectSpec, RetrySpec
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

B = "b.default.svc.cluster.local"
C = "c.default.svc.cluster.local"


def _forward(http: dict[str, Any], *others: dict[str, Any], port: int = 80) -> ForwardSpec:
    action = rule_of({"route": [to("b")], **http}, *others, port=port).action
    assert isinstance(action, ForwardSpec)
    return action


def _refs(*route: dict[str, Any]) -> list[tuple[str, int]]:
    return [(ref.cluster, ref.weight) for ref in _forward({"route": list(route)}).clusters]


def test_the_plain_route() -> None:
    assert _forward({}) == ForwardSpec(clusters=(ClusterRef(cluster=f"outbound|80||{B}"),))


def test_weights_are_relative_and_a_missing_one_is_none() -> None:
    assert _refs(to("b", weight=7)) == [(f"outbound|80||{B}", 1)]
    assert _refs(to("b", weight=0)) == [(f"outbound|80||{B}", 1)]
    assert _refs(to("b", weight=1), to("c", weight=3)) == [(f"outbound|80||{B}", 1), (f"outbound|7000||{C}", 3)]
    assert _refs(to("b", weight=100), to("c")) == [(f"outbound|80||{B}", 100)]


def test_ports_are_the_given_the_only_or_the_one_of_the_request() -> None:
    assert _refs(to("b", port=8080)) == [(f"outbound|8080||{B}", 1)]
    assert _refs(to("c")) == [(f"outbound|7000||{C}", 1)]
    assert [ref.cluster for ref in _forward({}, port=8080).clusters] == [f"outbound|8080||{B}"]


@pytest.mark.parametrize(
    ("destination", "cluster", "finding"),
    [
        (to("ghost"), "outbound|80||ghost.default.svc.cluster.local", ("IST0101", "destination.host")),
        (to("x.example.com", port=81), "outbound|81||x.example.com", ("IST0101", "destination.host")),
        (to("fd00::1"), "outbound|80||fd00::1", ("IST0101", "destination.host")),
        (to("b.ghost"), "outbound|80||b.ghost", ("IST0101", "destination.host")),
        (to("b.other"), "outbound|80||b.other", ("IST0101", "destination.host")),
        (to("b.default"), f"outbound|80||{B}", ("ACMG003", "destination.host")),
        (to("b", port=81), f"outbound|81||{B}", ("IST0101", "destination.port.number")),
        (to("b", "v9"), f"outbound|80|v9|{B}", ("IST0101", "destination.subset")),
        (to("d"), "outbound|80||d.default.svc.cluster.local", ("IST0112", "destination")),
    ],
)
def test_destinations_that_are_not_quite_there(destination: dict[str, Any], cluster: str, finding: tuple[str, str]) -> None:
    code, field = finding
    found = translated(
        service("b"),
        service("d", ports=[{"name": "x", "port": 1}, {"name": "y", "port": 2}]),
        virtual_service("vs", ["b"], {"match": [{"port": 80}], "route": [destination]}),
    )
    (rule,) = rules_of(found)
    assert isinstance(rule.action, ForwardSpec)
    assert rule.action.clusters == (ClusterRef(cluster=cluster),)
    assert (cluster in found.specs.clusters) is (code == "ACMG003")
    assert codes(found) == [(code, "default/vs", f"spec.http[0].route[0].{field}")]


def test_subsets_come_from_destination_rules_as_each_namespace_sees_them() -> None:
    found = translated(
        service("b"),
        virtual_service("vs", ["b"], {"route": [to("b", "v1")]}),
        destination_rule("dr", "b", subset("v1", version="v1")),
        destination_rule("own", B, subset("v1", version="v2"), namespace="other"),
        destination_rule("none", B, namespace="third"),
    )
    (rule,) = rules_of(found)
    assert isinstance(rule.action, ForwardSpec)
    (ref,) = rule.action.clusters
    assert ref.cluster == f"outbound|80|v1|{B}"
    assert ref.by_namespace == {"other": f"outbound|80|v1|{B}@other", "third": f"outbound|80|v1|{B}@third"}
    assert ref.by_namespace["other"] in found.specs.clusters
    assert ref.by_namespace["third"] not in found.specs.clusters
    (missing,) = [entry for entry in found.diagnostics if entry.code == "IST0101"]
    assert "namespace third" in missing.message


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0.0), ("1.5s", 1.5), (None, 0.0)])
def test_timeouts(text: str | None, seconds: float) -> None:
    assert _forward({"timeout": text}).timeout_s == seconds


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        (None, RetrySpec()),
        ({}, RetrySpec(attempts=0)),
        ({"attempts": 0}, RetrySpec(attempts=0)),
        ({"attempts": 3}, RetrySpec(attempts=3)),
        ({"attempts": 1, "retryOn": "5xx, reset,5xx"}, RetrySpec(attempts=1, retry_on=("5xx", "reset"))),
        (
            {"attempts": 1, "retryOn": "429,connect-failure,503"},
            RetrySpec(attempts=1, retry_on=("connect-failure", "retriable-status-codes"), status_codes=(429, 503)),
        ),
        (
            {"attempts": 1, "retryOn": "retriable-status-codes,429"},
            RetrySpec(attempts=1, retry_on=("retriable-status-codes",), status_codes=(429,)),
        ),
        (
            {
                "attempts": 2,
                "perTryTimeout": "200ms",
                "backoff": "10ms",
                "retryIgnorePreviousHosts": False,
                "retryRemoteLocalities": True,
            },
            RetrySpec(
                attempts=2, per_try_timeout_s=0.2, backoff_base_s=0.01, ignore_previous_hosts=False, remote_localities=True
            ),
        ),
    ],
)
def test_retries(retries: Any, expected: RetrySpec) -> None:
    assert _forward({"retries": retries}).retry == expected


@pytest.mark.parametrize("rest", [{"retryOn": "5xx"}, {"perTryTimeout": "1s"}, {"retryRemoteLocalities": False}])
def test_retries_without_attempts_are_off_with_a_warning(rest: dict[str, Any]) -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"route": [to("b")], "retries": rest}))
    assert codes(found) == [("ACMG009", "default/vs", "spec.http[0].retries.attempts")]


def test_rewrites() -> None:
    action = _forward({"rewrite": {"uri": "/x", "authority": "x.example"}})
    assert action.path_rewrite == PathRewrite(kind="prefix", value="/x")
    assert action.host_rewrite == "x.example"
    regex = _forward({"rewrite": {"uriRegexRewrite": {"match": "/(.)", "rewrite": "/\\1"}}})
    assert regex.path_rewrite == PathRewrite(kind="regex", pattern="/(.)", value="/\\1")
    assert _forward({"rewrite": {"authority": "x"}}).path_rewrite is None


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({"uri": "/x"}, RedirectSpec(path_rewrite=PathRewrite(kind="full", value="/x"))),
        ({"prefixRewrite": "/"}, RedirectSpec(path_rewrite=PathRewrite(kind="prefix", value="/"))),
        ({"authority": "a", "redirectCode": 307}, RedirectSpec(authority="a", status=307)),
        ({"scheme": "https", "port": 8443}, RedirectSpec(scheme="https", port=8443)),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT"}, RedirectSpec(port_from="protocol-default")),
        ({"derivePort": "FROM_REQUEST_PORT"}, RedirectSpec(port_from="request-port")),
    ],
)
def test_redirects(redirect: dict[str, Any], expected: RedirectSpec) -> None:
    assert rule_of({"redirect": redirect}).action == expected


@pytest.mark.parametrize(
    ("body", "expected"), [(None, b""), ({}, b""), ({"string": "h\u00e9"}, b"h\xc3\xa9"), ({"bytes": "AP8="}, b"\x00\xff")]
)
def test_direct_responses(body: Any, expected: bytes) -> None:
    assert rule_of({"directResponse": {"status": 418, "body": body}}).action == DirectResponseSpec(status=418, body=expected)


def test_a_large_body_is_warned_about() -> None:
    response = {"status": 200, "body": {"string": "a" * 100_001}}
    found = translated(service("b"), virtual_service("vs", ["b"], {"directResponse": response}))
    assert codes(found) == [("ACMG012", "default/vs", "spec.http[0].directResponse.body")]


def test_header_operations_of_a_rule() -> None:
    rule = rule_of(
        {
            "route": [to("b")],
            "headers": {
                "request": {"set": {"X-A": "1"}, "add": {"X-B": "2"}, "remove": ["X-C"]},
                "response": {"add": {"x-d": "100%% of %a%"}},
            },
        }
    )
    assert rule.request_headers == HeaderOps(remove=("x-c",), set=(("x-a", "1"),), add=(("x-b", "2"),))
    assert rule.response_headers == HeaderOps(add=(("x-d", "100% of %a%"),))


def test_header_operations_of_a_destination() -> None:
    headers = {"request": {"set": {"x-a": "1"}}, "response": {"remove": ["x-b"]}}
    (first, second) = _forward({"route": [to("b", weight=1, headers=headers), to("c", weight=1)]}).clusters
    assert first.request_headers == HeaderOps(set=(("x-a", "1"),))
    assert first.response_headers == HeaderOps(remove=("x-b",))
    assert second.request_headers is None
    assert second.response_headers is None


def test_empty_header_operations_are_none() -> None:
    rule = rule_of({"route": [to("b")], "headers": {"request": {}, "response": None}})
    assert rule.request_headers is None
    assert rule.response_headers is None


@pytest.mark.parametrize(
    "operations", [{"set": {"Host": "x"}}, {"add": {":authority": "x"}}, {"set": {"HOST": "x"}, "add": {"host": "y"}}]
)
def test_setting_host_is_a_rewrite(operations: dict[str, Any]) -> None:
    at_rule = _forward({"headers": {"request": operations}})
    assert at_rule.host_rewrite == "x"
    at_destination = _forward({"route": [to("b", headers={"request": operations})]})
    assert at_destination.host_rewrite == ""
    assert at_destination.clusters[0].host_rewrite == "x"
    assert at_destination.clusters[0].request_headers is None


def test_the_rules_host_beats_the_destinations_and_a_rewrite_beats_both() -> None:
    http = {
        "route": [to("b", headers={"request": {"set": {"host": "destination"}}})],
        "headers": {"request": {"set": {"host": "rule"}}},
    }
    action = _forward(http)
    assert (action.host_rewrite, action.clusters[0].host_rewrite) == ("rule", "")
    assert _forward({**http, "rewrite": {"authority": "rewrite"}}).host_rewrite == "rewrite"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"request": {"set": {"x-a": "%DOWNSTREAM_REMOTE_ADDRESS%"}}}, "request.set.x-a"),
        ({"response": {"add": {"x-a": "at %START_TIME(%s)%"}}}, "response.add.x-a"),
        ({"response": {"set": {"x-a": "%REQ(x-b):10%"}}}, "response.set.x-a"),
        ({"response": {"set": {"Content-Length": "1"}}}, "response.set.Content-Length"),
        ({"request": {"remove": ["Transfer-Encoding"]}}, "request.remove[0]"),
    ],
)
def test_operations_that_are_not_carried_out_are_reported(headers: dict[str, Any], field: str) -> None:
    found = translated(service("b"), virtual_service("vs", ["b"], {"route": [to("b")], "headers": headers}))
    (rule,) = rules_of(found)
    assert rule.request_headers is None
    assert rule.response_headers is None
    assert codes(found) == [("ACMG001", "default/vs", f"spec.http[0].headers.{field}")]
