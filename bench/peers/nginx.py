# SPDX-License-Identifier: Apache-2.0
"""nginx as a plain reverse proxy, and what its configuration shares with the upstream, which is nginx too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.net import free_address
from bench.peers.base import Peer, Running, first_line, program

if TYPE_CHECKING:
    from bench.daemon import Daemon
    from bench.peers.base import Site

__all__ = ["Nginx", "launch_nginx"]

_MAIN = """\
{user}daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path client; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
{http}
}}
"""

_PROXY = """\
  upstream helloworld {{
    server {first[0]}:{first[1]} weight=90;
    server {second[0]}:{second[1]} weight=10;
    keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h;
  }}
  server {{
    listen {address[0]}:{address[1]} backlog=4096;
    client_max_body_size 0;
    location / {{
      proxy_pass http://helloworld;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_connect_timeout 10s;
      proxy_read_timeout 10s;
      proxy_next_upstream error timeout http_503;
      proxy_next_upstream_tries 4;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Request-Id $request_id;
    }}
  }}
"""


def launch_nginx(site: Site, name: str, http: str, *, workers: int = 1) -> Daemon:
    """Start an nginx with the given lines in its http block."""
    folder = site.folder(name)
    user = "user root;\n" if os.geteuid() == 0 else ""  # workers must reach the directory; the directive is void for others
    configuration = folder / "nginx.conf"
    configuration.write_text(_MAIN.format(user=user, workers=workers, http=http))
    return site.launch([program("nginx", package="nginx-light"), "-p", folder, "-c", configuration, "-e", "stderr"], folder)


class Nginx(Peer):
    """nginx with proxy_pass, keep-alive upstream, retries and the two headers that every mesh proxy adds.

    Bodies are passed on as they come, as the others do it, and never through files. It counts no statistics.
    """

    name = "nginx"

    def __init__(self, *, workers: int = 1) -> None:
        self._workers = workers

    def version(self) -> str:
        """See Peer."""
        return first_line([program("nginx", package="nginx-light"), "-v"]).removeprefix("nginx version: ")

    def start(self, site: Site) -> Running:
        """See Peer."""
        address = free_address()
        first, second = site.upstreams
        http = _PROXY.format(address=address, first=first, second=second)
        daemon = launch_nginx(site, self.name, http, workers=self._workers)
        return Running(address=address, daemons=(daemon,), configuration={"nginx.conf, http": http})
