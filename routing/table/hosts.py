# SPDX-License-Identifier: Apache-2.0
"""The hosts of one port: which virtual host a Host value means.

An exact name beats a wildcard, a longer wildcard a shorter one, `*` comes last (Envoy). A bare Service name is valid only for
callers of the Service's own namespace, where it goes before everything else. Adding and removing a virtual host costs what its
own names cost; a look-up is a few dict look-ups, whatever the number of hosts.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.table.virtual_host import CompiledVirtualHost

__all__ = ["HostIndex"]

_MAX_NAME = 253
"""Octets in a DNS name (RFC 1035 section 3.1). Longer ones cannot match a wildcard, which bounds the walk over its labels."""


class HostIndex:
    """Virtual hosts by domain."""

    __slots__ = ("_contested", "_names", "_short", "_wildcards")

    def __init__(self) -> None:
        self._names: dict[bytes, CompiledVirtualHost] = {}
        self._wildcards: dict[bytes, CompiledVirtualHost] = {}
        self._short: dict[bytes, dict[str, CompiledVirtualHost]] = defaultdict(dict)
        self._contested: dict[tuple[bool, bytes], list[CompiledVirtualHost]] = {}

    def __bool__(self) -> bool:
        return bool(self._names or self._wildcards or self._short)

    def add(self, virtual_host: CompiledVirtualHost) -> None:
        """Make a virtual host known by the domains of its spec.

        A domain that several claim goes to the one it names, else to the one with the smallest key.
        """
        for wild, domain in _domains(virtual_host):
            table = self._wildcards if wild else self._names
            holder = table.setdefault(domain, virtual_host)
            if holder is not virtual_host:
                claims = self._contested.setdefault((wild, domain), [holder])
                claims.append(virtual_host)
                table[domain] = min(claims, key=lambda claim: _precedence(claim, domain))
        spec = virtual_host.spec
        if spec.short_name:
            self._short[spec.short_name.encode()][spec.namespace] = virtual_host

    def remove(self, virtual_host: CompiledVirtualHost) -> None:
        """Undo `add`; the spec must still be the one it was added with."""
        for wild, domain in _domains(virtual_host):
            table = self._wildcards if wild else self._names
            claims = self._contested.get((wild, domain))
            if claims is None:
                del table[domain]
                continue
            claims.remove(virtual_host)
            table[domain] = min(claims, key=lambda claim: _precedence(claim, domain))
            if len(claims) == 1:
                del self._contested[wild, domain]
        short = virtual_host.spec.short_name.encode()
        owners = self._short.get(short, {})
        if owners.get(virtual_host.spec.namespace) is virtual_host:
            del owners[virtual_host.spec.namespace]
            if not owners:
                del self._short[short]

    def lookup(self, host: bytes) -> CompiledVirtualHost | None:
        """Return the virtual host that all callers mean by `host` (lower case, without port)."""
        found = self._names.get(host)
        if found is not None or not self._wildcards:
            return found
        if len(host) <= _MAX_NAME:
            dot = host.find(b".", 1)  # from 1: a wildcard stands for at least one character
            while dot != -1:
                found = self._wildcards.get(host[dot:])
                if found is not None:
                    return found
                dot = host.find(b".", dot + 1)
        return self._wildcards.get(b"") if host else None

    def lookup_short(self, host: bytes) -> dict[str, CompiledVirtualHost]:
        """Return the virtual hosts that have `host` as their bare name, by the namespace in which it is valid."""
        return self._short.get(host, {})


def _domains(virtual_host: CompiledVirtualHost) -> list[tuple[bool, bytes]]:
    """Return (is a wildcard, the name or the wildcard's suffix) of all domains."""
    domains = dict.fromkeys(domain.lower() for domain in virtual_host.spec.domains)
    return [(True, domain[1:].encode()) if domain.startswith("*") else (False, domain.encode()) for domain in domains]


def _precedence(virtual_host: CompiledVirtualHost, domain: bytes) -> tuple[bool, str]:
    return virtual_host.name.removeprefix("*").encode() != domain, virtual_host.key
