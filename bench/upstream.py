# SPDX-License-Identifier: Apache-2.0
"""The upstream behind every peer: one nginx that answers from memory on two addresses, as the pods of two subsets would.

nginx because it costs little beside the load generator on the same core, and keeps connections alive for ever: what is measured
must be the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.load import BODY, UPLOAD_PATH, body_path
from bench.net import free_address
from bench.peers.nginx import launch_nginx

if TYPE_CHECKING:
    from bench.daemon import Daemon
    from bench.net import Address
    from bench.peers import Site

__all__ = ["BODY_SIZES", "start_upstream", "upstream_addresses"]

BODY_SIZES = (1024, 64 * 1024, 1024 * 1024)
"""Answers that are there besides the small one, by their bytes."""

_SERVER = """\
  default_type text/plain;
  upstream itself {{ server {first[0]}:{first[1]}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 1h; }}
  server {{
    listen {first[0]}:{first[1]} backlog=4096;
    listen {second[0]}:{second[1]} backlog=4096;
    location / {{ return 200 "{body}"; }}
    location /bytes/ {{ root {files}; sendfile on; open_file_cache max=16; }}
    location = {upload} {{
      # "return" would answer before the body is there; proxy_pass takes all of it first
      client_max_body_size 0;
      client_body_buffer_size 2m;
      proxy_pass http://itself/;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
    }}
  }}
"""


def upstream_addresses() -> tuple[Address, Address]:
    """Return the two addresses to use: different hosts with the same port, as pods have."""
    first = free_address()
    return first, free_address(first[1])


def start_upstream(site: Site, name: str = "upstream") -> Daemon:
    """Start the upstream on the addresses of `site`."""
    first, second = site.upstreams
    files = site.folder(f"{name}-files")
    for size in BODY_SIZES:
        file = files / body_path(size).lstrip("/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"b" * size)
    http = _SERVER.format(first=first, second=second, body=BODY.decode(), files=files, upload=UPLOAD_PATH)
    return launch_nginx(site, name, http)
