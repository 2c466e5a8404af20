# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.hashing import CompiledHash, hash64
from routing.headers import HeaderError
from routing.specs import HashSpec
from tests.unit.routing.table_kit import Head

if TYPE_CHECKING:
    from collections.abc import Callable


def never() -> float:
    raise AssertionError("nothing is to be drawn")


def draws(*values: float) -> Callable[[], float]:
    left = list(values)
    return lambda: left.pop(0)


def compiled(kind: Any, name: str = "", **options: Any) -> CompiledHash:
    return CompiledHash(HashSpec(kind=kind, name=name, **options))


def test_the_hash_is_xxhash64() -> None:
    assert hash64(b"") == 0xEF46DB3751D8E999  # from the specification of xxHash
    assert hash64(b"foo") == 0x33BF00A859C4BA3F  # from Envoy's test/common/common/hash_test.cc


def test_of_a_header() -> None:
    policy = compiled("header", "X-User")
    assert policy.of(Head(headers={b"x-user": b"ann"}), "10.0.0.1", never) == (hash64(b"ann"), None)
    assert policy.of(Head(headers={b"x-user": b""}), "10.0.0.1", never) == (hash64(b""), None)
    assert policy.of(Head(), "10.0.0.1", never) == (None, None)


def test_of_a_pseudo_header() -> None:
    assert compiled("header", ":authority").of(Head(authority=b"web:80"), "", never) == (hash64(b"web:80"), None)


def test_of_the_first_value_of_a_query_parameter() -> None:
    policy = compiled("query", "User")
    assert policy.of(Head(query=b"User=a&User=b"), "", never) == (hash64(b"a"), None)
    assert policy.of(Head(query=b"user=a"), "", never) == (None, None)


def test_of_the_source_address() -> None:
    assert compiled("source-ip").of(Head(), "10.0.0.1", never) == (hash64(b"10.0.0.1"), None)


def test_of_a_cookie() -> None:
    policy = compiled("cookie", "user", ttl_s=60.0)
    head = Head(headers={b"cookie": b"a=b; user=ann"})
    assert policy.of(head, "10.0.0.1", never) == (hash64(b"ann"), None)


def test_a_missing_cookie_is_generated_when_it_has_a_ttl() -> None:
    policy = compiled("cookie", "user", ttl_s=60.9, path="/p", attributes=(("SameSite", "Strict"), ("Secure", "")))
    value, line = policy.of(Head(), "", draws(0.5, 0.25))
    assert line == b'set-cookie: user="8000000040000000"; Max-Age=60; Path=/p; SameSite=Strict; Secure; HttpOnly'
    head = Head(headers={b"cookie": line.partition(b": ")[2].partition(b";")[0]})
    assert policy.of(head, "", never) == (value, None)


def test_a_session_cookie_has_no_age() -> None:
    _, line = compiled("cookie", "user", ttl_s=0.0).of(Head(headers={b"cookie": b"user="}), "", draws(0.0, 0.999_999_999_9))
    assert line == b'set-cookie: user="00000000ffffffff"; HttpOnly'


def test_a_cookie_without_ttl_is_not_generated() -> None:
    assert compiled("cookie", "user").of(Head(), "", never) == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a;b"},
        {"name": "a b"},
        {"name": "a\x01"},
        {"name": "a", "path": "/\r\nx: y"},
        {"name": "a", "attributes": (("Domain", "x\r\n"),)},
    ],
)
def test_a_cookie_that_cannot_be_written_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(HeaderError):
        compiled("cookie", ttl_s=1.0, **options)


def test_repr() -> None:
    assert repr(compiled("cookie", "user")) == "CompiledHash(of_cookie, 'user')"
