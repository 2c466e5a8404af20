# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.cases.checks import Group, check
from tests.cases.client import Result
from tests.cases.model import Expect
from tests.cases.pods import Call
from tests.cases.scene import Addresses, Scene

SCENE = Scene(Addresses(99))


def _call(number: int, pod: str = "b-v1", **fields: Any) -> Call:
    plain: dict[str, Any] = {
        "port": 8080,
        "connection": 1,
        "method": "GET",
        "path": "/x",
        "body": "",
        "headers": (("host", "b"),),
    }
    return Call(number=number, pod=("default", pod), **plain | fields)


def _answer(call: Call | None = None, **fields: Any) -> Result:
    headers = (("x-call", str(call.number)),) if call is not None else ()
    return Result(**{"status": 200, "headers": headers, "call": call, "attempt": call, "flag": "-"} | fields)


def _group(*results: Result, calls: list[Call] | None = None) -> Group:
    seen = [result.call for result in results if result.call is not None]
    return Group(scene=SCENE, results=list(results), callers=["127.9.9.9"] * len(results), calls=seen if calls is None else calls)


ONE = _group(
    _answer(
        _call(7, headers=(("host", "b"), ("x-a", "1, 2"), ("x-a", "3"), ("x-forwarded-for", "127.9.9.9"))),
        headers=(("x-call", "7"), ("location", "http://b/"), ("set-cookie", 'user="1"; Path=/; Max-Age=60')),
        body="hello",
        duration_ms=100.0,
        flag="UF,URX",
    )
)
V1, V2, C = (_call(number, pod) for number, pod in enumerate(("b-v1", "b-v2", "c-v1"), 1))
MANY = _group(_answer(V1), _answer(V2), _answer(V1, status=503, flag="UO"), _answer(V2), calls=[V1, V2, C])
COPIES = _group(_answer(V1), calls=[V1, C, _call(9, "c-v2")])


@pytest.mark.parametrize(
    ("group", "good", "bad", "complaint"),
    [
        (ONE, {"status": 200}, {"status": 201}, "status: expected 201"),
        (ONE, {"status_in": [200, 204]}, {"status_in": [204]}, "one of [204]"),
        (ONE, {"flag": "URX"}, {"flag": "UR"}, "flag: expected UR"),
        (ONE, {"body": "hello"}, {"body": "hell"}, "body"),
        (ONE, {"location": "http://b/"}, {"location": "/"}, "location"),
        (ONE, {"duration_ms": [50, 150]}, {"duration_ms": [150, 200]}, "took 100"),
        (ONE, {"upstream": {"app": "b", "version": "v1", "namespace": "default"}}, {"upstream": {"version": "v2"}}, "saw v1"),
        (ONE, {"upstream": {"pod": "b-v1", "pod_port": 8080}}, {"upstream": {"pod_port": 8090}}, "pod_port"),
        (ONE, {"upstream_request": {"path": "/x", "host": "b"}}, {"upstream_request": {"path": "/"}}, "received '/x'"),
        (ONE, {"upstream_request": {"headers": {"X-A": "1,2,3"}}}, {"upstream_request": {"headers": {"x-a": "1"}}}, "x-a"),
        (
            ONE,
            {"upstream_request": {"headers": {"x-forwarded-for": "${caller_ip}"}}},
            {"upstream_request": {"headers": {"x-none": ""}}},
            "x-none",
        ),
        (
            ONE,
            {"upstream_request": {"headers_absent": ["x-b"]}},
            {"upstream_request": {"headers_absent": ["x-a"]}},
            "expected none",
        ),
        (
            ONE,
            {"upstream_request": {"headers_match": {"x-a": "^1,2"}}},
            {"upstream_request": {"headers_match": {"x-a": "^2"}}},
            "match",
        ),
        (ONE, {"upstream_request": {"method": "GET", "body": ""}}, {"upstream_request": {"sni": "b"}}, "sni"),
        (ONE, {}, {"upstream_request": {"proxy_protocol": {"version": 1}}}, "proxy_protocol"),
        (ONE, {"response_headers": {"location": "http://b/"}}, {"response_headers": {"x-b": "1"}}, "saw None"),
        (ONE, {"response_headers_absent": ["x-b"]}, {"response_headers_absent": ["location"]}, "location"),
        (ONE, {"response_headers_match": {"location": "^http"}}, {"response_headers_match": {"location": "^ftp"}}, "ftp"),
        (ONE, {"set_cookie": True}, {"set_cookie": "visit"}, "set_cookie"),
        (ONE, {"set_cookie": "user"}, {"set_cookie": False}, "set_cookie"),
        (ONE, {"set_cookie": {"name": "user", "max_age": 60}}, {"set_cookie": {"name": "user", "path": "/shop"}}, "set_cookie"),
        (ONE, {"no_set_cookie": "visit"}, {"no_set_cookie": True}, "no_set_cookie"),
        (ONE, {"single_pod": True}, {"single_pod": False}, "single_pod"),
        (ONE, {"all_pods_seen": False}, {"all_pods_seen": True}, "all_pods_seen"),
        (MANY, {"all_pods_seen": True}, {"single_pod": True}, "single_pod"),
        (MANY, {"status_in": [200, 503]}, {"status": 200}, "1 of 4 answers differ"),
        (MANY, {"distribution": {"b/v1": 50, "b": 100, "c": 0}, "tolerance_points": 0}, {"distribution": {"b/v1": 70}}, "50.0 %"),
        (MANY, {"distribution_min": {"b/v2": 50}}, {"distribution_min": {"b/v2": 51}}, "at least 51"),
        (MANY, {"status_distribution": {200: 75, 503: 25}}, {"status_distribution": {503: 0}}, "25.0 %"),
        (MANY, {"status_counts_min": {503: 1}}, {"status_counts_min": {503: 2}}, "at least 2 times"),
        (MANY, {"on_status": {503: {"flag": "UO"}, 404: {"flag": "NR"}}}, {"on_status": {503: {"flag": "NC"}}}, "on 503: flag"),
        (
            MANY,
            {"per_upstream": {"b/v2": {"status": 200}}},
            {"per_upstream": {"b-v1": {"status": 200}}},
            "answers of b-v1: status",
        ),
        (MANY, {}, {"per_upstream": {"a": {}}}, "there are none"),
        (MANY, {"upstream_calls": 3}, {"upstream_calls": 4}, "expected 4, saw 3"),
        (MANY, {"upstream_calls_max": 3}, {"upstream_calls_max": 2}, "at most 2"),
        (MANY, {"upstream_connections": 1}, {"upstream_connections": 2}, "expected 2, saw 1"),
        (COPIES, {"mirrored": {"c": 2, "c/v1": 1, "a": 0}}, {"mirrored": {"c": 1}}, "expected 1 copies, saw 2"),
        (COPIES, {"mirrored": {"c": 2}, "upstream_calls": 1}, {"upstream_calls": 1}, "saw 3"),
        (COPIES, {"mirrored_percent": {"c-v2": 100}}, {"mirrored_percent": {"a": 100}}, "0.0 %"),
        (COPIES, {"mirrored_request": {"path": "/x"}}, {"mirrored_request": {"path": "/y"}}, "mirrored_request path"),
        (_group(), {}, {"distribution": {"b": 100}}, "no answers"),
        (_group(_answer(status=404)), {"status": 404}, {"upstream": {}}, "no pod answered"),
        (_group(_answer(status=404)), {"status": 404}, {"upstream_request": {}}, "no pod received it"),
        (_group(_answer(status=404)), {"flag": "-"}, {"mirrored_request": {}}, "no copy"),
        (_group(_answer(status=0, error="gone")), {"warm_up": True, "status": 200}, {}, "no good answer: gone"),
    ],
)
def test_every_key_is_checked(group: Group, good: dict[str, Any], bad: dict[str, Any], complaint: str) -> None:
    assert check(msgspec.convert(good, Expect), group) == []
    complaints = check(msgspec.convert(bad, Expect), group)
    assert complaint in "\n".join(complaints)
