# SPDX-License-Identifier: Apache-2.0
"""HAProxy as a plain reverse proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.net import free_address
from bench.peers.base import Peer, Running, first_line, program

if TYPE_CHECKING:
    from bench.peers.base import Site

__all__ = ["Haproxy"]

_CONFIGURATION = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 10s
  retries 3
  option redispatch
  http-reuse always
frontend in
  bind {address[0]}:{address[1]}
  option forwardfor
  http-request set-header X-Request-Id %[uuid] unless {{ req.hdr(X-Request-Id) -m found }}
  default_backend helloworld
backend helloworld
  balance roundrobin
  retry-on conn-failure empty-response 503
  server v1 {first[0]}:{first[1]} weight 90
  server v2 {second[0]}:{second[1]} weight 10
"""


class Haproxy(Peer):
    """HAProxy on one thread with connection reuse, retries, X-Request-Id and X-Forwarded-For; it always counts statistics."""

    name = "haproxy"

    def version(self) -> str:
        """See Peer."""
        return first_line([program("haproxy", package="haproxy"), "-v"]).split(" - ")[0]

    def start(self, site: Site) -> Running:
        """See Peer."""
        address = free_address()
        folder = site.folder(self.name)
        configuration = folder / "haproxy.cfg"
        first, second = site.upstreams
        text = _CONFIGURATION.format(address=address, first=first, second=second)
        configuration.write_text(text)
        daemon = site.launch([program("haproxy", package="haproxy"), "-db", "-f", configuration], folder)
        return Running(address=address, daemons=(daemon,), configuration={configuration.name: text})
