# SPDX-License-Identifier: Apache-2.0
"""X-Forwarded-*: what an upstream is told about where a request comes from.

The gateway knows one thing for sure, the address a connection came from. What the client says beyond that is believed, and passed
on with that address appended, only if the client is trusted (`trusted_callers`); else it is overwritten, since whoever reads
X-Forwarded-For takes it for the truth.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmgproxy.h1.request import RequestHead

__all__ = ["Forwarded", "TrustedCallers"]

_KEPT = frozenset({b"x-forwarded-host", b"forwarded"})


class TrustedCallers:
    """Networks whose word is taken for where a request comes from.

    Args:
        networks: in CIDR notation; a single address is a network of its own.

    Raises:
        ValueError: one of them is no network.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(text) for text in networks)
        self._known = lru_cache(maxsize=4096)(self._look_up)

    def __repr__(self) -> str:
        return f"TrustedCallers({', '.join(map(str, self._networks)) or 'nobody'})"

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._known(address)

    def _look_up(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


class Forwarded:
    """The fields for the requests of one connection.

    Args:
        peer: address of the client.
        trusted: it may speak for others.
    """

    __slots__ = ("_lines", "_peer", "_trusted")

    def __init__(self, peer: str, *, trusted: bool) -> None:
        self._peer = peer.encode()
        self._trusted = trusted
        self._lines = (b"x-forwarded-for: " + self._peer, b"x-forwarded-proto: http")

    def __repr__(self) -> str:
        return f"Forwarded({self._peer!r}{', trusted' if self._trusted else ''})"

    def lines(self, head: RequestHead) -> tuple[bytes, ...]:
        """Return the field lines for a request."""
        return self._believed(head) if self._trusted else self._lines

    def _believed(self, head: RequestHead) -> tuple[bytes, ...]:
        said = dict(head.special)
        chain = head.forwarded_for + b"," + self._peer if head.forwarded_for else self._peer
        kept = [name + b": " + value for name, value in head.special if name in _KEPT]
        return (b"x-forwarded-for: " + chain, b"x-forwarded-proto: " + said.get(b"x-forwarded-proto", b"http"), *kept)
