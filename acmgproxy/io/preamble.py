# SPDX-License-Identifier: Apache-2.0
"""The PROXY protocol preamble: tells an upstream who the client is (DestinationRule proxyProtocol).

After HAProxy's specification of versions 1 (text) and 2 (binary), https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress

__all__ = ["proxy_preamble"]

_SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def proxy_preamble(version: int, source: tuple[str, int] | None, destination: tuple[str, int]) -> bytes:
    """Return the bytes that begin a connection.

    Args:
        version: 1 or 2.
        source: address and port of the client; None, or one of another family than the destination's, is sent as unknown.
        destination: address and port of the endpoint.
    """
    to = _address(destination[0])
    origin = _address(source[0]) if source is not None else None
    if source is None or origin is None or origin.version != to.version:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE_V2 + b"\x20\x00\x00\x00"
    if version == 1:
        return f"PROXY TCP{to.version} {origin} {to} {source[1]} {destination[1]}\r\n".encode()
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    addresses = origin.packed + to.packed + ports
    family = b"\x11" if to.version == 4 else b"\x21"
    return _SIGNATURE_V2 + b"\x21" + family + len(addresses).to_bytes(2, "big") + addresses


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address: without the interface of a link-local one, and as IPv4 if IPv6 only wraps it (dual-stack sockets)."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
