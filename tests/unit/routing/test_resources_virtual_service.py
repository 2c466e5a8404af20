# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.resources: what a VirtualService is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from routing.resources import ResourceError, decode
from tests.unit.routing.objects import decoded_vs, to, virtual_service

ROUTE = [to("b")]


def _problems(*http: dict[str, Any], hosts: list[str] | None = None, **spec: Any) -> list[tuple[str, str]]:
    obj = virtual_service("vs", ["b"] if hosts is None else hosts, *http, **spec)
    try:
        decode(obj)
    except ResourceError as error:
        return [(problem.field.removeprefix("spec.http[0]").removeprefix("."), problem.reason) for problem in error.problems]
    return []


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_served_version_is_read(version: str) -> None:
    obj = virtual_service("vs", ["b"])
    obj["apiVersion"] = f"networking.istio.io/{version}"
    assert decoded_vs(obj).spec.hosts == ("b",)


def test_a_full_rule() -> None:
    found = decoded_vs(
        virtual_service(
            "vs",
            ["b", "*.example.com", "10.0.0.1"],
            {
                "name": "r",
                "match": [
                    {
                        "name": "m",
                        "uri": {"prefix": ""},
                        "ignoreUriCase": True,
                        "method": {"exact": "GET"},
                        "headers": {
                            "X-A": {"exact": ""},
                            "x-b": None,
                            "x-c": {},
                            "x-d": {"regex": "*"},
                            ":path": {"prefix": "/"},
                        },
                        "withoutHeaders": {"x-e": {"regex": "a+"}},
                        "queryParams": {"q": {"exact": "1"}},
                        "port": 80,
                        "sourceLabels": {"app": "a"},
                        "sourceNamespace": "other",
                        "gateways": ["mesh", "ns/gw", "gw.x"],
                        "statPrefix": "s",
                    }
                ],
                "route": [to("b", "v1", weight=1, port=80), to("b.other", weight=3)],
                "rewrite": {"uriRegexRewrite": {"match": "/(a)", "rewrite": "/\\1"}, "authority": "x.example:80"},
                "timeout": "0s",
                "retries": {
                    "attempts": 1,
                    "perTryTimeout": "1s",
                    "retryOn": "5xx, 429",
                    "backoff": "5ms",
                    "retryIgnorePreviousHosts": False,
                },
                "headers": {
                    "request": {"set": {"Host": "x", "x-a": "\u00e9t\u00e9 %%"}, "remove": ["x-b"]},
                    "response": {"add": {"x-c": ""}},
                },
            },
            {"directResponse": {"status": 503, "body": {"bytes": "aGk="}}},
            {"redirect": {"prefixRewrite": "/x", "redirectCode": 308, "derivePort": "FROM_REQUEST_PORT", "scheme": "https"}},
            {"delegate": {"name": "leaf", "namespace": "n"}},
            exportTo=[".", "other"],
            gateways=["mesh"],
        )
    )
    rule = found.spec.http[0]
    assert set(rule.match[0].headers) == {"X-A", "x-b", "x-c", "x-d", ":path"}
    assert rule.match[0].headers["x-b"] is None
    assert rule.timeout == 0.0
    assert rule.route[0].destination.port is not None
    response = found.spec.http[1].direct_response
    assert response is not None
    assert response.body is not None
    assert response.body.data == b"hi"
    assert found.notes == ()


def test_a_delegate_has_no_hosts() -> None:
    assert decoded_vs(virtual_service("leaf", [], {"route": ROUTE})).spec.hosts == ()
    assert _problems({"route": ROUTE}, hosts=[], gateways=["mesh"]) == [
        ("spec.gateways", "must not be given without hosts: a delegate is bound where its root is"),
    ]


def test_only_tcp_or_tls_rules_are_no_error() -> None:
    obj = virtual_service("vs", ["b"], tls=[{}])
    obj["spec"]["http"] = None
    assert decoded_vs(obj).spec.http == ()
    del obj["spec"]["tls"]
    with pytest.raises(ResourceError, match=r"spec\.http: there must be at least one rule"):
        decode(obj)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hosts": ["*"]}, ("spec.hosts[0]", "`*` is not allowed on gateway mesh")),
        ({"hosts": ["*"], "gateways": ["x", "mesh"]}, ("spec.hosts[0]", "`*` is not allowed on gateway mesh")),
        ({"hosts": ["b", "B."]}, ("spec.hosts[1]", "'B.' overlaps with 'b'")),
        ({"hosts": ["*.x", "a.x"]}, ("spec.hosts[1]", "'a.x' overlaps with '*.x'")),
        ({"hosts": ["a b"]}, ("spec.hosts[0]", "is neither a DNS name nor an IP address")),
        ({"gateways": ["A/b"]}, ("spec.gateways[0]", "'A/b' is neither `mesh`, a name nor <namespace>/<name>")),
        ({"gateways": ["/b"]}, ("spec.gateways[0]", "'/b' is neither `mesh`, a name nor <namespace>/<name>")),
        ({"gateways": [""]}, ("spec.gateways[0]", "'' is neither `mesh`, a name nor <namespace>/<name>")),
        ({"exportTo": ["*", "."]}, ("spec.exportTo", "`*` makes the object public; the other entries contradict it")),
        ({"exportTo": [".", "default"]}, ("spec.exportTo[1]", "'default' is given twice")),
        ({"exportTo": ["~"]}, ("spec.exportTo[0]", "'~' is neither `.`, `*` nor a namespace")),
    ],
)
def test_object_level(spec: dict[str, Any], expected: tuple[str, str]) -> None:
    assert _problems({"route": ROUTE}, **spec) == [expected]


PRINTABLE = "must be printable ASCII without blanks and `#`; percent-encode the rest"
NO_TOKEN = "is neither a retry condition nor a status code"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, ("", "one of route, redirect, directResponse and delegate is required")),
        ({"route": ROUTE, "redirect": {"uri": "/"}}, ("", "route and redirect exclude each other")),
        ({"route": ROUTE, "delegate": {"name": "x"}}, ("", "route and delegate exclude each other")),
        (
            {"redirect": {"uri": "/"}, "rewrite": {"uri": "/"}},
            ("rewrite", "is not allowed beside redirect or directResponse"),
        ),
        (
            {"directResponse": {"status": 200}, "rewrite": {"uri": "/"}},
            ("rewrite", "is not allowed beside redirect or directResponse"),
        ),
        ({"redirect": {}}, ("redirect", "one of uri, prefixRewrite, authority, port, derivePort and scheme is required")),
        ({"redirect": {"port": 1, "derivePort": "FROM_REQUEST_PORT"}}, ("redirect", "port and derivePort exclude each other")),
        ({"redirect": {"uri": "x"}}, ("redirect.uri", "must begin with a slash")),
        ({"redirect": {"authority": "a/b"}}, ("redirect.authority", "'a/b' is not a host")),
        ({"redirect": {"uri": "/", "prefixRewrite": "/"}}, ("redirect", "uri and prefixRewrite exclude each other")),
        ({"redirect": {"prefixRewrite": ""}}, ("redirect.prefixRewrite", "must begin with a slash")),
        (
            {"match": [{"uri": {"exact": "/a"}}], "redirect": {"prefixRewrite": "/"}},
            ("redirect.prefixRewrite", "every uri match of the rule must be a prefix"),
        ),
        (
            {"match": [{"uri": {"regex": "/a"}}], "redirect": {"prefixRewrite": "/"}},
            ("redirect.prefixRewrite", "every uri match of the rule must be a prefix"),
        ),
        ({"redirect": {"uri": "/", "redirectCode": 304}}, ("redirect.redirectCode", "invalid enum value 304")),
        ({"directResponse": {"status": 199}}, ("directResponse.status", "expected int >= 200")),
        (
            {"directResponse": {"status": 200, "body": {"string": "a", "bytes": "aGk="}}},
            ("directResponse.body", "string and bytes exclude each other"),
        ),
        (
            {"directResponse": {"status": 200, "body": {"string": "a" * 1048577}}},
            ("directResponse.body", "is larger than 1048576 bytes"),
        ),
        ({"route": ROUTE, "rewrite": {}}, ("rewrite", "one of uri, authority and uriRegexRewrite is required")),
        (
            {"route": ROUTE, "rewrite": {"uri": "/a b"}},
            ("rewrite.uri", "must be printable ASCII without blanks and `#`; percent-encode the rest"),
        ),
        ({"route": ROUTE, "rewrite": {"authority": "a\r\nb"}}, ("rewrite.authority", "'a\\r\\nb' is not a host")),
        (
            {"route": ROUTE, "rewrite": {"uri": "/", "uriRegexRewrite": {"match": "a", "rewrite": "b"}}},
            ("rewrite", "uri and uriRegexRewrite exclude each other"),
        ),
        (
            {"route": ROUTE, "rewrite": {"uriRegexRewrite": {"rewrite": "b"}}},
            ("rewrite.uriRegexRewrite.match", "must not be empty"),
        ),
        (
            {"route": ROUTE, "rewrite": {"uriRegexRewrite": {"match": "a"}}},
            ("rewrite.uriRegexRewrite.rewrite", "must have 1 to 1024 characters"),
        ),
        (
            {"route": ROUTE, "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "b c"}}},
            ("rewrite.uriRegexRewrite.rewrite", PRINTABLE),
        ),
        ({"route": ROUTE, "timeout": "0.5ms"}, ("timeout", "must be at least 1ms, or 0s for none")),
        ({"route": ROUTE, "timeout": "5"}, ("timeout", "expected a duration such as 1.5s or 100ms, got '5'")),
        ({"route": ROUTE, "timeout": "-1s"}, ("timeout", "expected a duration such as 1.5s or 100ms, got '-1s'")),
        ({"route": ROUTE, "retries": {"attempts": -1}}, ("retries.attempts", "expected int >= 0")),
        (
            {"route": ROUTE, "retries": {"perTryTimeout": "1us"}},
            ("retries.perTryTimeout", "must be at least 1ms, or 0s for none"),
        ),
        ({"route": ROUTE, "retries": {"backoff": "0s"}}, ("retries.backoff", "must be at least 1ms")),
        ({"route": ROUTE, "retries": {"retryOn": "5xx,x"}}, ("retries.retryOn", f"'x' {NO_TOKEN}")),
        ({"route": ROUTE, "retries": {"retryOn": "99"}}, ("retries.retryOn", f"'99' {NO_TOKEN}")),
        ({"route": ROUTE, "retries": {"retryOn": ","}}, ("retries.retryOn", f"'' {NO_TOKEN}")),
        ({"route": [to("b", weight=-1), to("c", weight=101)]}, ("route[0].weight", "expected int >= 0")),
        ({"route": [to("b", weight=0), to("c")]}, ("route", "the weights must not all be 0")),
        ({"route": [to("*.b")]}, ("route[0].destination.host", "must not be a wildcard")),
        ({"route": [to("")]}, ("route[0].destination.host", "must not be empty")),
        ({"route": [to("b", "a|b")]}, ("route[0].destination.subset", "'a|b' is not a name")),
        ({"route": [to("b", port=65536)]}, ("route[0].destination.port.number", "expected int <= 65535")),
    ],
)
def test_rules(rule: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in _problems(rule)


def test_a_substitution_must_fit_its_expression() -> None:
    rule = {"route": ROUTE, "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "/\\1"}}}
    (field, reason), *_ = _problems(rule)
    assert field == "rewrite.uriRegexRewrite.rewrite"
    assert "\\1" in reason


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"uri": {"exact": "/a", "prefix": "/"}}, ("uri", "exact and prefix exclude each other")),
        ({"uri": {"regex": ""}}, ("uri.regex", "must not be empty")),
        ({"method": {"prefix": ""}}, ("method.prefix", "must not be empty")),
        ({"scheme": {"exact": "a", "regex": "a"}}, ("scheme", "exact and regex exclude each other")),
        ({"headers": {"x": {"prefix": ""}}}, ("headers.x.prefix", "must not be empty")),
        ({"headers": {"": {"exact": "a"}}}, ("headers", "a name must not be empty")),
        ({"headers": {"a b": {"exact": "a"}}}, ("headers.a b", "'a b' is not a header name")),
        ({"withoutHeaders": {":x": {}}}, ("withoutHeaders.:x", "':x' is not a header name")),
        ({"queryParams": {"": {}}}, ("queryParams", "a name must not be empty")),
        ({"sourceNamespace": "A b"}, ("sourceNamespace", "'A b' is not a namespace")),
        ({"gateways": ["a b"]}, ("gateways[0]", "'a b' is neither `mesh`, a name nor <namespace>/<name>")),
        ({"port": 0}, ("port", "expected int >= 1")),
    ],
)
def test_match_entries(match: dict[str, Any], expected: tuple[str, str]) -> None:
    field, reason = expected
    assert _problems({"match": [match], "route": ROUTE}) == [(f"match[0].{field}", reason)]


@pytest.mark.parametrize("pattern", ["(?=a)", "a(", "a" * 1025])
def test_expressions_that_re2_does_not_take(pattern: str) -> None:
    ((field, reason),) = _problems({"match": [{"authority": {"regex": pattern}}], "route": ROUTE})
    assert field == "match[0].authority.regex"
    assert "regular expression" in reason


@pytest.mark.parametrize("match", [{"uris": {"exact": "/"}}, {"uri": {"exactly": "/"}}, {"headers": {"x": {"Exact": "1"}}}])
def test_a_misspelt_condition_is_refused_because_without_it_more_would_match(match: dict[str, Any]) -> None:
    ((_, reason),) = _problems({"match": [match], "route": ROUTE})
    assert reason.startswith("there is no such field; known are ")


def test_claims_of_tokens_are_conditions_too() -> None:
    assert _problems({"match": [{"headers": {"@request.auth.claims.groups": {"exact": "a"}}}], "route": ROUTE}) == []


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"request": {"set": {"a:b": "x"}}}, ("request.set.a:b", "'a:b' is not a header name")),
        ({"request": {"set": {":path": "/"}}}, ("request.set.:path", "':path' is not a header name")),
        ({"request": {"add": {"x": "a\r\nb: c"}}}, ("request.add.x", "must not contain control characters")),
        ({"request": {"set": {"Host": "a b"}}}, ("request.set.Host", "'a b' is not a host")),
        ({"request": {"remove": ["HOST"]}}, ("request.remove[0]", "Host must not be removed")),
        ({"request": {"remove": [":authority"]}}, ("request.remove[0]", "Host must not be removed")),
        ({"request": {"remove": [""]}}, ("request.remove[0]", "'' is not a header name")),
        ({"response": {"set": {"host": "a"}}}, ("response.set.host", "Host is not a response header")),
        ({"response": {"add": {":authority": "a"}}}, ("response.add.:authority", "Host is not a response header")),
        ({"response": {"remove": ["host"]}}, ("response.remove[0]", "Host must not be removed")),
    ],
)
def test_header_operations_at_both_levels(headers: dict[str, Any], expected: tuple[str, str]) -> None:
    field, reason = expected
    assert _problems({"route": ROUTE, "headers": headers}) == [(f"headers.{field}", reason)]
    assert _problems({"route": [to("b", headers=headers)]}) == [(f"route[0].headers.{field}", reason)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"fault": {}}, [("fault", "one of delay and abort is required")]),
        ({"fault": {"delay": {}}}, [("fault.delay", "fixedDelay is required")]),
        ({"fault": {"delay": {"fixedDelay": "0s"}}}, [("fault.delay.fixedDelay", "must be at least 1ms")]),
        ({"fault": {"abort": {}}}, [("fault.abort", "httpStatus is required")]),
        ({"fault": {"abort": {"httpStatus": 199}}}, [("fault.abort.httpStatus", "expected int >= 200")]),
        (
            {"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 101}}}},
            [("fault.abort.percentage.value", "expected float <= 100.0")],
        ),
        ({"fault": {"abort": {"grpcStatus": "UNAVAILABLE"}, "delay": {"exponentialDelay": "1s"}}}, []),
        ({"mirror": {"host": ""}}, [("mirror.host", "must not be empty")]),
        ({"mirror": {"host": "b"}, "mirrors": [{"destination": {"host": "b"}}]}, [("", "mirror and mirrors exclude each other")]),
        ({"mirrors": [{"destination": {"host": "*"}}]}, [("mirrors[0].destination.host", "must not be a wildcard")]),
        ({"mirrors": [{}]}, [("mirrors[0]", "object missing required field destination")]),
        ({"mirror": {"host": "b"}, "mirrorPercent": 101}, [("mirrorPercent", "expected int <= 100")]),
        (
            {"corsPolicy": {"allowOrigins": [{}]}},
            [("corsPolicy.allowOrigins[0]", "one of exact, prefix and regex is required")],
        ),
        (
            {"corsPolicy": {"allowOrigins": [{"exact": "a", "prefix": "b"}]}},
            [("corsPolicy.allowOrigins[0]", "exact and prefix exclude each other")],
        ),
        (
            {"corsPolicy": {"allowMethods": ["GET", "P OST"], "allowHeaders": ["a,b"], "exposeHeaders": ["x\r\n"]}},
            [
                ("corsPolicy.allowMethods[1]", "'P OST' is not a method"),
                ("corsPolicy.allowHeaders[0]", "'a,b' is not a header name"),
                ("corsPolicy.exposeHeaders[0]", "'x\\r\\n' is not a header name"),
            ],
        ),
        ({"corsPolicy": {"allowOrigin": ["a\n"]}}, [("corsPolicy.allowOrigin[0]", "must not contain control characters")]),
        ({"corsPolicy": {"maxAge": "1.5s"}}, [("corsPolicy.maxAge", "must be whole seconds")]),
        ({"corsPolicy": {"maxAge": "90s", "allowMethods": ["*"], "allowOrigin": ["*"]}}, []),
    ],
)
def test_faults_mirrors_and_cross_origin_policies(rule: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert _problems({"route": ROUTE, **rule}) == expected


@pytest.mark.parametrize("action", [{"redirect": {"uri": "/x"}}, {"directResponse": {"status": 200}}])
def test_faults_are_for_requests_that_are_forwarded(action: dict[str, Any]) -> None:
    fault = {"abort": {"httpStatus": 500}}
    assert _problems({**action, "fault": fault}) == [("fault", "is not allowed beside redirect or directResponse")]


def test_delegates() -> None:
    delegating = {"delegate": {"name": "leaf"}}
    assert _problems(delegating) == []
    assert _problems({"delegate": {"name": ""}}) == [("delegate.name", "must not be empty")]
    assert _problems(delegating, hosts=[]) == [
        ("delegate", "a delegate (a VirtualService without hosts) must not delegate again")
    ]
