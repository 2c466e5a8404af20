# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.headers import HeaderError
from routing.specs import DirectResponseSpec, PathRewrite, RedirectSpec
from routing.table.replies import DirectReply, Redirect
from tests.unit.routing.table_kit import Head, path


def location(head: Head, local_port: int = 80, match: Any = None, **options: Any) -> str:
    status, fields, body = Redirect(RedirectSpec(**options), match).render(head, local_port)
    assert (status, body) == (options.get("status", 301), b"")
    ((name, value),) = fields
    assert name == b"location"
    return value.decode()


def full(value: str) -> PathRewrite:
    return PathRewrite(kind="full", value=value)


def test_the_request_shows_through_where_nothing_is_said() -> None:
    assert location(Head(b"/a", b"b", query=b"z=1")) == "http://b/a?z=1"
    assert location(Head(b"/a", b"B:80")) == "http://B:80/a"
    assert location(Head(b"/a", b"b"), status=308) == "http://b/a"


@pytest.mark.parametrize(
    ("host", "options", "expected"),
    [
        ("b", {"port": 8083}, "http://b:8083/"),
        ("b:9", {"port": 8083}, "http://b:8083/"),
        ("b:9", {"port": 80}, "http://b/"),
        ("b", {"port": 443, "scheme": "https"}, "https://b/"),
        ("b", {"port": 80, "scheme": "https"}, "https://b:80/"),
        ("b:80", {"scheme": "https"}, "https://b/"),
        ("b:8080", {"scheme": "https"}, "https://b:8080/"),
        ("b:80", {}, "http://b:80/"),
        ("b:8080", {"port_from": "protocol-default"}, "http://b/"),
        ("b", {"port_from": "request-port"}, "http://b:5000/"),
        ("b:9", {"port_from": "request-port"}, "http://b:5000/"),
        ("b", {"port_from": "request-port", "port": 7}, "http://b:7/"),
        ("b:9", {"authority": "c"}, "http://c/"),
        ("b:9", {"authority": "c:7"}, "http://c:7/"),
        ("b:9", {"authority": "c:7", "port": 6}, "http://c:6/"),
        ("b:9", {"authority": "c", "port_from": "request-port"}, "http://c:5000/"),
        ("b:9", {"authority": "c", "port_from": "protocol-default"}, "http://c/"),
        ("[::1]:9", {"port": 6}, "http://[::1]:6/"),
        ("[::1]", {"port": 6}, "http://[::1]:6/"),
        ("b:", {}, "http://b/"),
    ],
)
def test_port_rules(host: str, options: dict[str, Any], expected: str) -> None:
    assert location(Head(b"/", host.encode()), 5000, **options) == expected


def test_a_derived_default_port_is_left_out() -> None:
    assert location(Head(b"/", b"b:9"), 80, port_from="request-port") == "http://b/"


def test_the_path_is_rewritten_and_the_query_kept() -> None:
    head = Head(b"/foo/bar", b"b", query=b"z=1")
    assert location(head, path_rewrite=full("/new")) == "http://b/new?z=1"
    prefix = PathRewrite(kind="prefix", value="/new/")
    assert location(head, match=path("prefix", "/foo/"), path_rewrite=prefix) == "http://b/new/bar?z=1"
    literal = PathRewrite(kind="prefix", value="/")
    assert location(Head(b"/foo/bar", b"b"), match=path("prefix", "/foo"), path_rewrite=literal) == "http://b//bar"


def test_a_query_in_the_replacement_wins() -> None:
    assert location(Head(b"/a", b"b", query=b"z=1"), path_rewrite=full("/new?y=2")) == "http://b/new?y=2"


def test_without_any_host_the_location_is_relative_and_names_no_host() -> None:
    assert location(Head(b"//evil.example/x", b"")) == "/evil.example/x"
    assert location(Head(b"/x", b""), authority="c") == "http://c/x"


@pytest.mark.parametrize("authority", ["a b", "a\r\nx: y", "a\x7f"])
def test_an_authority_cannot_smuggle_a_line(authority: str) -> None:
    with pytest.raises(HeaderError, match="redirect authority"):
        Redirect(RedirectSpec(authority=authority), None)


def test_a_direct_response_is_plain_text() -> None:
    reply = DirectReply(DirectResponseSpec(status=418, body=b"tea"))
    assert reply.render(Head(), 80) == (418, [(b"content-type", b"text/plain")], b"tea")
    assert repr(reply) == "DirectReply(418, 3 bytes)"


def test_a_direct_response_without_body_has_no_type() -> None:
    assert DirectReply(DirectResponseSpec(status=403)).render(Head(), 80) == (403, [], b"")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    assert DirectReply(DirectResponseSpec(status=status, body=b"x")).render(Head(), 80) == (status, [], b"")


def test_repr_tells_the_status() -> None:
    assert repr(Redirect(RedirectSpec(status=302), None)) == "Redirect(302)"
