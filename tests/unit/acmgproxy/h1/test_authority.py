# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from acmgproxy.h1 import authority
from acmgproxy.h1.authority import parse_authority
from acmgproxy.h1.errors import HeadError


@pytest.fixture(autouse=True)
def _empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "_cache", {})


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        (b"a", b"a", 0),
        (b"Reviews.Default.svc.cluster.LOCAL", b"reviews.default.svc.cluster.local", 0),
        (b"reviews:9080", b"reviews", 9080),
        (b"reviews.:9080", b"reviews", 9080),
        (b"a.", b"a", 0),
        (b".", b".", 0),
        (b"a:", b"a", 0),
        (b"a:0", b"a", 0),
        (b"a:00080", b"a", 80),
        (b"a:65535", b"a", 65535),
        (b"127.0.0.1:8080", b"127.0.0.1", 8080),
        (b"[::1]", b"[::1]", 0),
        (b"[::1]:", b"[::1]", 0),
        (b"[2001:DB8::1]:443", b"[2001:db8::1]", 443),
        (b"[::ffff:127.0.0.1]:1", b"[::ffff:127.0.0.1]", 1),
        (b"under_score.example", b"under_score.example", 0),
        (b"a%2Db", b"a%2db", 0),
        (b"~!$&'()*+;=", b"~!$&'()*+;=", 0),
    ],
)
def test_a_valid_authority_is_taken_apart(value: bytes, host: bytes, port: int) -> None:
    judged = parse_authority(value)
    assert (judged.raw, judged.host, judged.port) == (value, host, port)


@pytest.mark.parametrize(
    "value",
    [
        b"", b":", b":80", b"a:b", b"a:80:80", b"a:-1", b"a:+1", b"a:65536", b"a:123456", b"a:8 0", b"a b", b"a,b", b"a/b",
        b"a?b",
        b"a#b", b"a@b", b"user:pw@a", b"a\\b", b"a%", b"a%2", b"a%zz", b"a\x00", b"\xc3\xa4", b"a\t", b"<a>", b'"a"', b"[", b"[]",
        b"[::1", b"::1", b"[::1]a", b"[::1]:x", b"[::1]80", b"[:::]", b"[127.0.0.1]", b"[fe80::1%25eth0]", b"[fe80::1%eth0]",
        b"[\xff]", b"[v1.a]", b"[::1]]", b"[[::1]]", b"a[::1]", b"http://a",
    ],
)  # fmt: skip
def test_an_invalid_authority_is_a_bad_request(value: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        parse_authority(value)
    assert caught.value.status == 400
    assert not authority._cache


def test_a_repeated_value_is_remembered() -> None:
    assert parse_authority(b"a:1") is parse_authority(bytes(bytearray(b"a:1")))


def test_the_memory_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "_CACHE_SIZE", 3)
    for number in range(10):
        parse_authority(b"host-%d" % number)
        assert 1 <= len(authority._cache) <= 3
    assert parse_authority(b"host-0").host == b"host-0"


def test_the_memory_is_bounded_in_size() -> None:
    longest = b"a" * 260
    assert parse_authority(longest) is parse_authority(longest)
    longer = b"a" * 261
    assert parse_authority(longer).host == longer
    assert longer not in authority._cache


def test_its_repr_names_host_and_port() -> None:
    assert repr(parse_authority(b"A:1")) == "Authority(b'a', 1)"
