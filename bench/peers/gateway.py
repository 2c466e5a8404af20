# SPDX-License-Identifier: Apache-2.0
"""This gateway, with a full policy: a weighted split over two subsets, timeout, retries, metrics, a known caller."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.net import free_address
from bench.peers.base import Peer, Running

if TYPE_CHECKING:
    from bench.net import Address
    from bench.peers.base import Site

__all__ = ["Gateway", "manifest"]

_PROJECT = Path(__file__).resolve().parents[2]
_READY = '"event":"ready"'

_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: helloworld, namespace: default}}
spec:
  clusterIP: {address[0]}
  selector: {{app: helloworld}}
  ports:
  - {{name: http, port: {address[1]}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: helloworld, namespace: default}}
spec:
  hosts: [helloworld]
  http:
  - match:
    - uri: {{exact: /hello}}
    route:
    - destination: {{host: helloworld, subset: v1}}
      weight: 90
    - destination: {{host: helloworld, subset: v2}}
      weight: 10
    timeout: 10s
    retries: {{attempts: 3, perTryTimeout: 2s, retryOn: "connect-failure,reset,503"}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: helloworld, namespace: default}}
spec:
  host: helloworld
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: sleep, namespace: default, labels: {{app: sleep}}}}
spec: {{serviceAccountName: sleep}}
status: {{podIP: 127.0.0.1, phase: Running}}
"""

_UPSTREAM = """\
---
apiVersion: v1
kind: Pod
metadata: {{name: helloworld-{version}, namespace: default, labels: {{app: helloworld, version: {version}}}}}
spec: {{serviceAccountName: helloworld}}
status: {{podIP: {address[0]}, phase: Running}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: helloworld-{version}
  namespace: default
  labels: {{kubernetes.io/service-name: helloworld}}
addressType: IPv4
ports:
- {{name: http, port: {address[1]}, protocol: TCP}}
endpoints:
- addresses: [{address[0]}]
  conditions: {{ready: true, serving: true, terminating: false}}
  targetRef: {{kind: Pod, name: helloworld-{version}, namespace: default}}
"""


def manifest(address: Address, upstreams: tuple[Address, Address]) -> str:
    """Return the objects of a Service at `address` with a full policy in front of two upstreams, as YAML."""
    parts = [_SERVICE.format(address=address)]
    parts += [_UPSTREAM.format(version=version, address=at) for version, at in zip(("v1", "v2"), upstreams, strict=True)]
    return "".join(parts)


class Gateway(Peer):
    """acmgproxy with one worker, as `acmgproxy run` starts it."""

    name: ClassVar[str] = "acmgproxy"

    def version(self) -> str:
        """See Peer."""
        try:
            own = metadata.version("acmgproxy")
        except metadata.PackageNotFoundError:
            own = "not installed, from the source tree"
        libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "httptools"))
        return f"acmgproxy {own} (Python {platform.python_version()}, {libraries})"

    def start(self, site: Site) -> Running:
        """See Peer."""
        address = free_address()
        folder = site.folder(self.name)
        configuration = folder / "config"
        configuration.mkdir()
        (configuration / "helloworld.yaml").write_text(manifest(address, site.upstreams))
        argv: list[str | Path] = [sys.executable, "-m", "acmgproxy", "run", "--config", configuration, "--workers", "1"]
        argv += ["--admin", "127.0.0.1:0", "--shared-port", "0", "--access-log", "off"]
        daemon = site.launch(argv, folder)
        daemon.wait_log(_READY)
        return Running(address=address, daemons=(daemon,))
