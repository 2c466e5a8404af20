# SPDX-License-Identifier: Apache-2.0
"""Which ClusterIPs are taken by which Service, and the next that is free."""

from __future__ import annotations

import ipaddress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kube.kinds import Kind
    from tests.kube.store import Change, Key, Store

__all__ = ["NETWORKS", "ClusterIps"]

NETWORKS = {"IPv4": ipaddress.ip_network("10.96.0.0/16"), "IPv6": ipaddress.ip_network("fd00:10:96::/112")}


class ClusterIps:
    """The addresses of one cluster's Services."""

    def __init__(self, store: Store) -> None:
        self._taken: dict[str, Key] = {}
        self._next = count(10)
        store.on_change(self._changed)

    def __repr__(self) -> str:
        return f"<ClusterIps {len(self._taken)} taken>"

    def owner(self, address: str) -> Key | None:
        """Return (namespace, name) of the Service that has an address, None when it is free."""
        return self._taken.get(address)

    def free(self, family: str) -> str:
        """Return an address that no Service has; the first ten of a network are never given away."""
        network = NETWORKS[family]
        while True:
            address = str(network[10 + next(self._next) % (network.num_addresses - 20)])
            if address not in self._taken:
                return address

    def _changed(self, kind: Kind, change: Change) -> None:
        if kind.key != ("", "services"):
            return
        for address in _addresses(change.old.obj) if change.old else ():
            self._taken.pop(address, None)
        if change.type != "DELETED":
            for address in _addresses(change.entry.obj):
                self._taken[address] = change.key


def _addresses(service: dict[str, object]) -> list[str]:
    spec = service.get("spec")
    listed = spec.get("clusterIPs") if isinstance(spec, dict) else None
    return [one for one in listed if one != "None"] if isinstance(listed, list) else []
