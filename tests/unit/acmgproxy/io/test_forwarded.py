# SPDX-License-Identifier: Apache-2.0
"""acmgproxy.io.forwarded: who is believed, and what upstreams are told."""

from __future__ import annotations

import pytest

from acmgproxy.h1.limits import Limits
from acmgproxy.h1.request import RequestHead, parse_request_head
from acmgproxy.io.forwarded import Forwarded, TrustedCallers


def head(*lines: str) -> RequestHead:
    return parse_request_head("\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode(), Limits())


@pytest.mark.parametrize(
    ("networks", "address", "is_trusted"),
    [
        ((), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.200.3.4", True),
        (("10.0.0.0/8",), "11.0.0.1", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("10.0.0.0/8", "fd00::/8"), "fd00::1", True),
        (("10.0.0.0/8",), "fd00::1", False),
        (("0.0.0.0/0",), "", False),
    ],
)
def test_networks_are_trusted(networks: tuple[str, ...], address: str, is_trusted: bool) -> None:
    trusted = TrustedCallers(networks)
    assert (address in trusted) is is_trusted
    assert (address in trusted) is is_trusted


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        TrustedCallers(["10.0.0.1/8"])


def test_a_stranger_is_overwritten() -> None:
    lines = Forwarded("10.0.0.9", trusted=False).lines(head("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"))
    assert lines == (b"x-forwarded-for: 10.0.0.9", b"x-forwarded-proto: http")


def test_a_trusted_caller_is_appended() -> None:
    forwarded = Forwarded("10.0.0.9", trusted=True)
    assert forwarded.lines(head()) == (b"x-forwarded-for: 10.0.0.9", b"x-forwarded-proto: http")
    assert forwarded.lines(head("Forwarded: for=a", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https")) == (
        b"x-forwarded-for: 1.2.3.4,10.0.0.9",
        b"x-forwarded-proto: https",
        b"forwarded: for=a",
    )


def test_repr_tells_who() -> None:
    assert repr(TrustedCallers([])) == "TrustedCallers(nobody)"
    assert repr(TrustedCallers(["10.0.0.0/8"])) == "TrustedCallers(10.0.0.0/8)"
    assert repr(Forwarded("a", trusted=True)) == "Forwarded(b'a', trusted)"
