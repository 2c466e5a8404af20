# SPDX-License-Identifier: Apache-2.0
"""The peers: everything that gets the load, one small class each, in the order of the report.

All proxies are given the same job: plain HTTP on one address, 90 % of the requests to the first upstream and 10 % to the second,
keep-alive on both sides, no access log, one worker.
"""

from __future__ import annotations

from bench.peers.base import Peer, PeerMissing, Running, Site
from bench.peers.direct import Direct
from bench.peers.envoy import Envoy, EnvoyTwice
from bench.peers.gateway import Gateway
from bench.peers.haproxy import Haproxy
from bench.peers.nginx import Nginx

__all__ = ["PEERS", "Peer", "PeerMissing", "Running", "Site"]

PEERS: tuple[Peer, ...] = (Direct(), Gateway(), Nginx(), Haproxy(), Envoy(), EnvoyTwice())
