# SPDX-License-Identifier: Apache-2.0
"""This gateway, with a full policy: a weighted split over two subsets, timeout, retries, metrics, a known caller.

Besides the one Service there may be any number of further hosts, each with a VirtualService of its own: the size of the table.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from bench.net import free_address
from bench.peers.base import Peer, Running

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.net import Address
    from bench.peers.base import Site

__all__ = ["TABLE_PATH", "Gateway", "manifest", "table_host", "table_manifest"]

TABLE_PATH = "/table"
"""Answered for the hosts of the table only: whoever gets an answer has been routed by its Host."""

_PROJECT = Path(__file__).resolve().parents[2]
_READY = '"event":"ready"'
_READY_TIMEOUT_S = 120.0
"""Reading 10,000 VirtualServices takes a few seconds on a quiet machine."""

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
  - match:
    - uri: {{prefix: /bytes/}}
    - uri: {{exact: /upload}}
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


_TABLE_SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {{name: table-{number}, namespace: default}}
spec:
  clusterIP: 10.97.{third}.{fourth}
  ports:
  - {{name: http, port: {port}}}
"""

_TABLE_HOST = """\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: table-{number}, namespace: default}}
spec:
  hosts: [{host}]
  http:
  - match:
    - uri: {{exact: {path}}}
    route:
    - destination: {{host: helloworld, subset: v1}}
      weight: {weight}
    - destination: {{host: helloworld, subset: v2}}
      weight: {other}
    timeout: 10s
    retries: {{attempts: 3, perTryTimeout: 2s, retryOn: "connect-failure,reset,503"}}
"""


def manifest(address: Address, upstreams: tuple[Address, Address]) -> str:
    """Return the objects of a Service at `address` with a full policy in front of two upstreams, as YAML."""
    parts = [_SERVICE.format(address=address)]
    parts += [_UPSTREAM.format(version=version, address=at) for version, at in zip(("v1", "v2"), upstreams, strict=True)]
    return "".join(parts)


def table_host(number: int) -> str:
    """Return the name of a host of the table."""
    return f"table-{number}.default.svc.cluster.local"


def table_manifest(numbers: Iterable[int], *, weight: int = 90) -> str:
    """Return a VirtualService for each of these hosts, as YAML. `weight` goes to the first upstream, the rest to the second."""
    return "".join(
        _TABLE_HOST.format(number=number, host=table_host(number), path=TABLE_PATH, weight=weight, other=100 - weight)
        for number in numbers
    )


def table_services(numbers: Iterable[int], port: int) -> str:
    """Return a Service for each of these hosts, as YAML: a host is known on the ports of its Service only."""
    return "".join(
        _TABLE_SERVICE.format(number=number, third=number // 250, fourth=number % 250, port=port) for number in numbers
    )


class Gateway(Peer):
    """acmgproxy, as `acmgproxy run` starts it.

    Args:
        name: how it is called in the results.
        workers: how many.
        hosts: of the table, besides the Service.
        files: further configuration, by file name.
        tree: directory of the source to run; this one unless given.
    """

    def __init__(
        self,
        name: str = "acmgproxy",
        *,
        workers: int = 1,
        hosts: int = 0,
        files: Mapping[str, str] | None = None,
        tree: Path | None = None,
    ) -> None:
        self.name = name
        self._workers = workers
        self._hosts = hosts
        self._files = files or {}
        self._tree = tree or _PROJECT

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
        text = manifest(address, site.upstreams)
        argv: list[str | Path] = ["env", f"PYTHONPATH={self._tree}", sys.executable, "-m", "acmgproxy", "run"]
        options: list[str | Path] = ["--workers", str(self._workers), "--shared-port", "0", "--access-log", "off"]
        folder = site.folder(self.name)
        directory = folder / "config"
        directory.mkdir()
        (directory / "helloworld.yaml").write_text(text)
        if self._hosts:
            numbers = range(self._hosts)
            (directory / "table.yaml").write_text(table_manifest(numbers) + table_services(numbers, address[1]))
        for name, more in self._files.items():
            (directory / name).write_text(more)
        daemon = site.launch([*argv, "--config", directory, "--admin", "127.0.0.1:0", *options], folder)
        ready = daemon.wait_log(_READY, timeout_s=_READY_TIMEOUT_S)
        details = {"admin": json.loads(ready)["admin"], "directory": str(directory)}
        configuration = {"helloworld.yaml": text, "options": " ".join(map(str, options))}
        return Running(address=address, daemons=(daemon,), configuration=configuration, details=details)
