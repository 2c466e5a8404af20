# SPDX-License-Identifier: Apache-2.0
"""acmgproxy.io.preamble: the bytes of HAProxy's PROXY protocol, versions 1 and 2."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmgproxy.io.preamble import proxy_preamble

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
ADDRESSES = st.one_of(st.tuples(*[st.ip_addresses(v=4)] * 2), st.tuples(*[st.ip_addresses(v=6)] * 2)).filter(
    lambda pair: not any(isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped for one in pair)
)
PORTS = st.integers(0, 65535)


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (("192.0.2.1", 51000), ("10.0.0.1", 8080), b"PROXY TCP4 192.0.2.1 10.0.0.1 51000 8080\r\n"),
        (("2001:db8::1", 1), ("fd00::2", 65535), b"PROXY TCP6 2001:db8::1 fd00::2 1 65535\r\n"),
        (("fe80::1%eth0", 1), ("fd00::2", 2), b"PROXY TCP6 fe80::1 fd00::2 1 2\r\n"),
        (("::ffff:192.0.2.1", 1), ("10.0.0.1", 2), b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n"),
        (None, ("10.0.0.1", 2), b"PROXY UNKNOWN\r\n"),
        (("2001:db8::1", 1), ("10.0.0.1", 2), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1(source: tuple[str, int] | None, destination: tuple[str, int], line: bytes) -> None:
    assert proxy_preamble(1, source, destination) == line


@pytest.mark.parametrize(
    ("source", "destination", "rest"),
    [
        (("192.0.2.1", 51000), ("10.0.0.1", 8080), "21 11 000c c0000201 0a000001 c738 1f90"),
        (("::1", 1), ("::2", 2), "21 21 0024" + "0" * 31 + "1" + "0" * 31 + "2" + "0001 0002"),
        (None, ("10.0.0.1", 2), "20 00 0000"),
        (("192.0.2.1", 1), ("::2", 2), "20 00 0000"),
    ],
)
def test_version_2(source: tuple[str, int] | None, destination: tuple[str, int], rest: str) -> None:
    assert proxy_preamble(2, source, destination) == SIGNATURE + bytes.fromhex(rest)


@given(ADDRESSES, PORTS, PORTS)
def test_both_versions_say_the_same(pair: tuple[Any, Any], source_port: int, destination_port: int) -> None:
    source, destination = (str(pair[0]), source_port), (str(pair[1]), destination_port)
    words = proxy_preamble(1, source, destination).decode().split()
    assert words == ["PROXY", f"TCP{pair[0].version}", source[0], destination[0], str(source_port), str(destination_port)]
    data = proxy_preamble(2, source, destination)
    assert data[:12] == SIGNATURE
    command, family, length = struct.unpack("!BBH", data[12:16])
    assert (command, family, length) == (0x21, 0x11 if pair[0].version == 4 else 0x21, len(data) - 16)
    size = len(pair[0].packed)
    assert data[16 : 16 + 2 * size] == pair[0].packed + pair[1].packed
    assert struct.unpack("!HH", data[-4:]) == (source_port, destination_port)


@given(ADDRESSES, PORTS, PORTS)
def test_version_1_fits_into_what_receivers_read_at_once(pair: tuple[Any, Any], source_port: int, destination_port: int) -> None:
    assert len(proxy_preamble(1, (str(pair[0]), source_port), (str(pair[1]), destination_port))) <= 107
