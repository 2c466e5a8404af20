# SPDX-License-Identifier: Apache-2.0
"""The upstream behind every peer: one nginx that answers from memory on two addresses, as the pods of two subsets would.

nginx because it costs little beside the load generator on the same core, and keeps connections alive for ever: what is measured
must be the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.load import BODY
from bench.net import free_address
from bench.peers.nginx import launch_nginx

if TYPE_CHECKING:
    from bench.daemon import Daemon
    from bench.net import Address
    from bench.peers import Site

__all__ = ["start_upstream", "upstream_addresses"]

_SERVER = """\
  default_type text/plain;
  server {{
    listen {first[0]}:{first[1]};
    listen {second[0]}:{second[1]};
    location / {{ return 200 "{body}"; }}
  }}
"""


def upstream_addresses() -> tuple[Address, Address]:
    """Return the two addresses to use: different hosts with the same port, as pods have."""
    first = free_address()
    return first, free_address(first[1])


def start_upstream(site: Site) -> Daemon:
    """Start the upstream on the addresses of `site`."""
    first, second = site.upstreams
    return launch_nginx(site, "upstream", _SERVER.format(first=first, second=second, body=BODY.decode()))
