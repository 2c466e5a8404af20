# SPDX-License-Identifier: Apache-2.0
"""/listeners: each address, who accepts there, and how many endpoints stand behind it.

Whoever is about to send traffic here asks this first, every second and perhaps for thousands of addresses: the answer says that
an address is ready only as far as *every* worker has applied what makes it so. It is made again when something happened since,
and then only where an entry differs, and with pauses for what is more urgent; its ETag is that of its bytes, so that who asks
again mostly gets a 304.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import orjson

from acmgproxy.io.admin import Page
from routing.names import cluster_name

if TYPE_CHECKING:
    from acmgproxy.sockets import Bind
    from acmgproxy.supervisor import ListenerStatus, Supervisor
    from routing.specs import Specs

__all__ = ["Listing"]


_AT_ONCE = 250
"""Entries compared between two pauses; together they take about a millisecond."""


class _Facts(NamedTuple):
    """What an entry says; equal facts, equal entry.

    Args:
        status: of the address.
        service: "namespace/name", "" where it is no one Service's.
        service_port: 0 on the shared listener.
        endpoints: of the port's default cluster, in the worker that has the fewest.
    """

    status: ListenerStatus
    service: str
    service_port: int
    endpoints: int


class Listing:
    """Makes the page.

    Args:
        supervisor: asked.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._revision = -1
        self._updating = asyncio.Lock()
        self._entries: dict[Bind, tuple[_Facts, bytes]] = {}
        self._page = Page(b"[]\n", "")

    def __repr__(self) -> str:
        return f"<Listing revision={self._revision} entries={len(self._entries)}>"

    async def page(self) -> Page:
        """Return the page as of now."""
        async with self._updating:
            revision = self._supervisor.revision
            if revision != self._revision:
                await self._update()
                self._revision = revision
            return self._page

    async def _update(self) -> None:
        before, entries = self._entries, {}
        wanted, applied = self._supervisor.specs, self._supervisor.applied()
        has_changed = not self._page.etag
        for number, status in enumerate(self._supervisor.listeners(), 1):
            facts = _facts(status, wanted, applied)
            known = before.get(status.bind)
            if known is None or known[0] != facts:
                has_changed = True
                known = facts, orjson.dumps(_entry(facts))
            entries[status.bind] = known
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if has_changed or len(entries) != len(before):
            body = b"[\n" + b",\n".join(entry for _, entry in entries.values()) + b"\n]\n"
            self._page = Page(body, blake2b(body, digest_size=12).hexdigest())
        self._entries = entries


def _facts(status: ListenerStatus, wanted: Specs, applied: list[Specs]) -> _Facts:
    spec = wanted.listeners.get(status.bind.name)
    if spec is None or not spec.virtual_host:
        return _Facts(status, "", 0, 0)
    host = wanted.virtual_hosts.get(spec.virtual_host)
    default = host.default if host is not None else None
    name = default.cluster if default is not None else cluster_name(spec.port, "", _host(spec.name))
    cluster = wanted.clusters.get(name)
    service = f"{cluster.service_namespace}/{cluster.service_name}" if cluster is not None and cluster.service_name else ""
    return _Facts(status, service, spec.port, min(len(specs.endpoints.get(name, ())) for specs in applied))


def _entry(facts: _Facts) -> dict[str, object]:
    status = facts.status
    return {
        **status.bind._asdict(),
        "bound": all(status.workers),
        "workers": {str(number): is_bound for number, is_bound in enumerate(status.workers)},
        "error": status.error or None,
        "host": _host(status.bind.name) if facts.service_port else None,
        "service": facts.service or None,
        "service_port": facts.service_port or None,
        "endpoints": facts.endpoints,
    }


def _host(listener: str) -> str:
    return listener.rpartition(":")[0]
