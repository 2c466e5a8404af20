# SPDX-License-Identifier: Apache-2.0
"""No proxy: the load goes straight to the upstream. The ceiling of the load generator's core, and the floor of latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.peers.base import Peer, Running

if TYPE_CHECKING:
    from bench.peers.base import Site

__all__ = ["Direct"]


class Direct(Peer):
    """The first upstream itself; it has no CPU time and memory of its own."""

    name = "direct"

    def version(self) -> str:
        """See Peer."""
        return "no proxy"

    def start(self, site: Site) -> Running:
        """See Peer."""
        return Running(address=site.upstreams[0])
