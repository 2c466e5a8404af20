# SPDX-License-Identifier: Apache-2.0
"""Whatever is accepted can be compiled: an object that would make a worker refuse a whole configuration is refused itself.

Texts are put where a person may write any; the object is either refused, or its translation is taken by a route table, and what
the table makes of it for a head holds no line break of the author's.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.diff import diff
from routing.resources import ResourceError, decode
from routing.specs import Specs
from routing.store import Store
from routing.table import RouteTable
from routing.translate import translate
from tests.unit.routing.objects import destination_rule, service, subset, to, virtual_service

_NASTY = st.sampled_from(
    ["\r\n", "\n", "\r", "\0", " ", "", "\t", "\x7f", "\u00e9", "/", "//", "*", ".*", "(", "(?", "\\", "\\1", "%", "%%", ";", ","]
)
_TEXT = st.one_of(
    st.lists(st.one_of(_NASTY, st.sampled_from(["a", "b.c", "x-y", "/p", ":80", "host", "content-length"])), max_size=4).map(
        "".join
    ),
    st.text(max_size=12),
)

_RULES: list[dict[str, Any]] = [
    {"match": [{"uri": {"exact": "@"}}], "rewrite": {"uri": "@"}},
    {"match": [{"uri": {"prefix": "@"}}], "rewrite": {"uri": "@", "authority": "@"}},
    {"match": [{"uri": {"regex": "@"}}], "rewrite": {"uriRegexRewrite": {"match": "@", "rewrite": "@"}}},
    {"match": [{"method": {"exact": "@"}, "headers": {"@": {"prefix": "@"}}, "withoutHeaders": {"@": {"regex": "@"}}}]},
    {
        "match": [
            {
                "authority": {"exact": "@"},
                "queryParams": {"@": {"exact": "@"}},
                "sourceNamespace": "@",
                "sourceLabels": {"@": "@"},
            }
        ]
    },
    {"headers": {"request": {"set": {"@": "@", "host": "@"}, "add": {"@": "@"}, "remove": ["@"]}}, "name": "@"},
    {"headers": {"response": {"set": {"@": "@"}, "add": {"@": "@"}, "remove": ["@"]}}},
    {"corsPolicy": {"allowOrigins": [{"regex": "@"}, {"exact": "@"}], "allowMethods": ["@"], "allowHeaders": ["@"]}},
    {"corsPolicy": {"allowOrigin": ["@"], "exposeHeaders": ["@"]}},
    {"retries": {"attempts": 1, "retryOn": "@"}},
    {"mirror": {"host": "@", "subset": "@"}},
    {"route": [{"destination": {"host": "@", "subset": "@"}}]},
]
_LOCAL: list[dict[str, Any]] = [
    {"redirect": {"uri": "@", "authority": "@"}},
    {"redirect": {"prefixRewrite": "@"}, "match": [{"uri": {"prefix": "@"}}]},
    {"directResponse": {"status": 200, "body": {"string": "@"}}},
]
_POLICIES: list[dict[str, Any]] = [
    {"loadBalancer": {"consistentHash": {"httpHeaderName": "@"}}},
    {"loadBalancer": {"consistentHash": {"httpQueryParameterName": "@"}}},
    {
        "loadBalancer": {
            "consistentHash": {"httpCookie": {"name": "@", "path": "@", "ttl": "1s", "attributes": [{"name": "@", "value": "@"}]}}
        }
    },
    {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "@", "to": {"@": 100}}]}}},
    {"loadBalancer": {"localityLbSetting": {"failoverPriority": ["@", "@"]}}, "outlierDetection": {}},
    {"tls": {"mode": "SIMPLE", "sni": "@", "caCertificates": "@", "subjectAltNames": ["@"]}},
]


def _filled(draw: st.DrawFn, template: Any) -> Any:
    """Put texts in the places marked with @."""
    if template == "@":
        return draw(_TEXT)
    if isinstance(template, list):
        return [_filled(draw, entry) for entry in template]
    if isinstance(template, dict):
        return {_filled(draw, name): _filled(draw, value) for name, value in template.items()}
    return template


@st.composite
def _objects(draw: st.DrawFn) -> dict[str, Any]:
    which = draw(st.integers(0, 3))
    if which == 0:
        return virtual_service("vs", ["b"], {"route": [to("b")], **_filled(draw, draw(st.sampled_from(_RULES)))})
    if which == 1:
        return virtual_service("vs", ["b"], _filled(draw, draw(st.sampled_from(_LOCAL))))
    if which == 2:
        return virtual_service("vs", [draw(_TEXT)], {"route": [to("b")]}, exportTo=[draw(_TEXT)], gateways=[draw(_TEXT), "mesh"])
    return destination_rule(
        "dr", "b", subset(draw(_TEXT), a=draw(_TEXT)), trafficPolicy=_filled(draw, draw(st.sampled_from(_POLICIES)))
    )


@given(obj=_objects())
def test_what_is_accepted_can_be_compiled(obj: dict[str, Any]) -> None:
    try:
        resource = decode(obj)
    except ResourceError:
        return
    specs = translate(Store([decode(service("b")), resource])).specs
    change = diff(Specs(), specs, 1)
    assert change is not None
    table = RouteTable()
    table.apply(change)
    assert table.version == 1


@pytest.mark.parametrize("text", ["a\r\nx: y", "a\nb", "a\0b"])
def test_line_breaks_are_refused_where_they_would_reach_a_head(text: str) -> None:
    for template in (*_RULES[:2], *_RULES[5:9], *_LOCAL[:2]):
        filled = {"route": [to("b")]} if template not in _LOCAL else {}
        obj = virtual_service("vs", ["b"], {**filled, **_all(template, text)})
        with pytest.raises(ResourceError):
            decode(obj)


def _all(template: Any, text: str) -> Any:
    if template == "@":
        return text
    if isinstance(template, list):
        return [_all(entry, text) for entry in template]
    if isinstance(template, dict):
        return {name.replace("@", "x-a"): _all(value, text) for name, value in template.items()}
    return template
