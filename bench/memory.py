# SPDX-License-Identifier: Apache-2.0
"""What things cost in memory: a fresh gateway with one worker per row, many of one thing, resident memory.

    python -m bench memory                     the rows of docs/tuning.md and docs/performance.md, about two minutes
    python -m bench memory --scale 0.1         a tenth of the things

Clients and connections to endpoints: "each" is the peak above what the worker held before they came, by their number; "later"
the same after they have stayed as they are for a while (flat means equal), "left" what is still held when they have gone. Routes
and endpoints: what worker and supervisor hold with so many of them above what they hold without. What kernel sockets hold is not
in it.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import machine, procfs
from bench.daemon import DaemonError
from bench.net import free_address
from bench.peers import PeerMissing, Site
from bench.peers.gateway import table_manifest
from bench.peers.nginx import launch_nginx
from bench.suite.table import Row as TableRow
from bench.upstream import upstream_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from bench.net import Address
    from bench.suite.ground import Ground
    from bench.suite.plan import Plan

__all__ = ["KINDS", "Kind", "Row", "each", "main", "measure", "measure_objects", "measure_upstreams", "rows"]

_BIG_BYTES = 100 * 1024 * 1024
_STAY_S = 5.0
_GONE_S = 3.0
_TIMEOUT_S = 30.0
_READY = '"event":"ready"'

_READY_TIMEOUT_S = 120.0
_UPSTREAMS = 2_000
_ROUTES = 10_000
_ENDPOINTS = 10_000
_PER_SLICE = 100
_REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

_SLICE = """\
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{number}, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports:
- {{name: http, port: 80, protocol: TCP}}
endpoints:
"""

_UPSTREAM = """\
  server {{
    listen {first[0]}:{first[1]};
    location = /big {{ root {root}; }}
    location / {{ return 200 "hello"; }}
  }}
"""

_MANIFEST = """\
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  clusterIP: {address[0]}
  ports:
  - {{name: http, port: {address[1]}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports:
- {{name: http, port: {upstream[1]}, protocol: TCP}}
endpoints:
- addresses: ["{upstream[0]}"]
  conditions: {{ready: true, serving: true, terminating: false}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of client: what each does once connected."""

    name: str
    count: int
    act: Callable[[socket.socket], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A process's resident memory in bytes: before, at the peak, after a while, when all had gone (0: not looked at)."""

    name: str
    count: int
    before: int
    peak: int
    later: int
    left: int
    process: str = "worker"


def _ask(sock: socket.socket) -> None:
    """Be served once and stay."""
    sock.sendall(_REQUEST)
    sock.recv(65536)


def _ask_big(sock: socket.socket) -> None:
    """Ask for a big answer and do not read it."""
    sock.sendall(b"GET /big HTTP/1.1\r\nHost: web\r\n\r\n")


def _send_half(size: int) -> Callable[[socket.socket], None]:
    def act(sock: socket.socket) -> None:
        head = b"GET / HTTP/1.1\r\nHost: web\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"x" * 700) for i in range(80))
        sock.sendall(head[:size])

    return act


KINDS = (
    Kind(name="silent: connected, nothing sent", count=10_000, act=lambda _: None),
    Kind(name="idle: kept after an answer", count=10_000, act=_ask),
    Kind(name="half a head, 1 KiB", count=1000, act=_send_half(1024)),
    Kind(name="half a head, 48 KiB", count=1000, act=_send_half(48 * 1024)),
    Kind(name="100 MiB asked for, nothing read", count=1000, act=_ask_big),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench memory", description="What things cost in memory.")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual numbers (default %(default)s)")
    options = parser.parse_args(argv)
    console = Console(width=max(Console().width, 120))
    table = Table("what", "number", "each", "later", "left", "process", "before", "peak")
    try:
        with console.status("") as status:
            for row in rows(options.scale, cpus=(), step=status.update):
                each, later = ((value - row.before) / row.count / 1024 for value in (row.peak, row.later))
                whole = [f"{value / 1e6:.0f} MB" for value in (row.before, row.peak)]
                left = f"{(row.left - row.before) / 1e6:.0f} MB" if row.left else "-"
                table.add_row(row.name, f"{row.count:,}", f"{each:.1f} KiB", f"{later:.1f} KiB", left, row.process, *whole)
    except (DaemonError, PeerMissing, OSError) as error:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        return 1
    console.print(table)
    described = machine.describe(machine.split_cpus())
    console.print(", ".join(f"{name} {described[name]}" for name in ("python", "kernel", "arch", "cpus")), highlight=False)
    return 0


def each(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[TableRow]:
    """Measure everything for the full comparison."""
    found = []
    for row in rows(plan.memory_scale, cpus=ground.site.cpus, step=step):
        labels = {"name": row.name, "count": row.count, "process": row.process}
        one = TableRow(peer="acmgproxy", labels=labels)
        kib = [(value - row.before) / row.count / 1024 for value in (row.peak, row.later)]
        one.add({"each_kib": round(kib[0], 2), "later_kib": round(kib[1], 2), "peak_mb": round(row.peak / 1e6, 1)})
        found.append(one)
    return found


def rows(scale: float, *, cpus: Collection[int], step: Callable[[str], None]) -> Iterator[Row]:
    """Measure everything, `scale` times the usual number of each.

    Raises:
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx is not installed.
        OSError: a client was not served.
    """
    with _many_files():
        for kind in KINDS:
            step(f"memory: {kind.name}")
            yield measure(kind, max(1, round(kind.count * scale)), cpus=cpus, patience=min(1.0, 10 * scale))
        step("memory: idle connections to an endpoint")
        yield measure_upstreams(max(1, round(_UPSTREAMS * scale)), cpus=cpus)
        for name, count, objects in (("route", _ROUTES, table_manifest), ("endpoint", _ENDPOINTS, _endpoint_slices)):
            step(f"memory: {name}s")
            number = max(1, round(count * scale))
            yield from measure_objects(name, number, objects(range(number)), cpus=cpus)


@contextmanager
def _many_files() -> Iterator[None]:
    """Allow as many descriptors as may be had; the processes that are started inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def measure(kind: Kind, count: int, *, cpus: Collection[int] = (), patience: float = 1.0) -> Row:
    """Start a gateway, let clients come, stay and go; `patience`: times how long they usually stay.

    Raises:
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx is not installed.
        OSError: a client was not served.
    """
    with _site(cpus) as site:
        with (site.directory / "big").open("wb") as big:
            big.truncate(_BIG_BYTES)
        launch_nginx(site, "upstream", _UPSTREAM.format(first=site.upstreams[0], root=site.directory))
        address, worker, _ = _start(site)
        with socket.create_connection(address, timeout=_TIMEOUT_S) as first:
            _ask(first)
        before = procfs.forget_peak(worker)
        clients = _clients(site, count)
        for client in clients:
            client.connect(address)
            kind.act(client)
        _settle(worker)
        peak = procfs.peak_bytes(worker)
        time.sleep(_STAY_S * patience)  # noqa: TID251 - the time is what is measured
        later = procfs.resident_bytes(worker)
        for client in clients:
            client.close()
        time.sleep(_GONE_S * patience)  # noqa: TID251
        left = procfs.resident_bytes(worker)
    return Row(name=kind.name, count=count, before=before, peak=peak, later=later, left=left)


def measure_upstreams(count: int, *, cpus: Collection[int] = ()) -> Row:
    """Have one endpoint hold `count` requests at a time, so that there are as many connections to it, idle when all are answered.

    The clients have all been served before, one after the other through one connection. What the requests needed while they were
    under way is not given back at once: this is the most that the connections cost.

    Raises:
        DaemonError: a server process did not start, or ended.
        OSError: a client was not served.
    """
    with _site(cpus) as site, socket.create_server(site.upstreams[0], backlog=4096) as endpoint:
        endpoint.settimeout(_TIMEOUT_S)
        address, worker, _ = _start(site)
        clients = _clients(site, count)
        for client in clients:
            client.connect(address)
        clients[0].sendall(_REQUEST)
        first = _accepted(site, endpoint)
        _answer(first, clients[0])
        for client in clients[1:]:
            client.sendall(_REQUEST)
            first.recv(65536)
            _answer(first, client)
        _settle(worker)
        before = procfs.resident_bytes(worker)
        first.close()
        held = []
        for client in clients:
            client.sendall(_REQUEST)
            held.append(_accepted(site, endpoint))
        for one, client in zip(held, clients, strict=True):
            _answer(one, client)
        _settle(worker)
        now = procfs.resident_bytes(worker)
    return Row(name="connection to an endpoint, idle", count=count, before=before, peak=now, later=now, left=0)


def _accepted(site: Site, endpoint: socket.socket) -> socket.socket:
    """Take the connection on which the next request comes, and the request."""
    accepted = site.stack.enter_context(endpoint.accept()[0])
    accepted.settimeout(_TIMEOUT_S)
    accepted.recv(65536)
    return accepted


def _answer(upstream: socket.socket, client: socket.socket) -> None:
    """Have the client get an answer."""
    upstream.sendall(_ANSWER)
    if not client.recv(65536).startswith(b"HTTP/1.1 200 "):
        msg = "a client got another answer than its endpoint's"
        raise ConnectionError(msg)


def measure_objects(name: str, count: int, objects: str, *, cpus: Collection[int] = ()) -> Iterator[Row]:
    """Start a gateway without and with `count` more objects; yield what worker and supervisor hold.

    Raises:
        DaemonError: a server process did not start, or ended.
    """
    held: dict[bool, tuple[int, ...]] = {}
    for has_objects in (False, True):
        with _site(cpus) as site:
            _, *pids = _start(site, objects if has_objects else "")
            for pid in pids:
                _settle(pid)
            held[has_objects] = tuple(map(procfs.resident_bytes, pids))
    for process, before, now in zip(("worker", "supervisor"), held[False], held[True], strict=True):
        yield Row(name=name, count=count, before=before, peak=now, later=now, left=0, process=process)


def _endpoint_slices(numbers: range) -> str:
    """Return EndpointSlices of the Service with so many endpoints, as YAML; the API's limit is 1,000 in one, its usual 100."""
    parts = []
    for begin in range(0, len(numbers), _PER_SLICE):
        parts.append(_SLICE.format(number=begin // _PER_SLICE))
        parts += [
            f"- {{addresses: [10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}], conditions: {{ready: true}}}}\n"
            for n in numbers[begin : begin + _PER_SLICE]
        ]
    return "".join(parts)


@contextmanager
def _site(cpus: Collection[int]) -> Iterator[Site]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        yield Site(directory=directory, cpus=cpus, upstreams=upstream_addresses(), stack=stack)


def _clients(site: Site, count: int) -> list[socket.socket]:
    clients = [site.stack.enter_context(socket.socket()) for _ in range(count)]
    for client in clients:
        client.settimeout(_TIMEOUT_S)
    return clients


def _start(site: Site, objects: str = "") -> tuple[Address, int, int]:
    """Start a gateway; return where the Service is and the process ids of worker and supervisor."""
    address = free_address()
    folder = site.folder("gateway")
    configuration = folder / "config"
    configuration.mkdir()
    (configuration / "web.yaml").write_text(_MANIFEST.format(address=address, upstream=site.upstreams[0]) + objects)
    argv: list[str | Path] = [sys.executable, "-m", "acmgproxy", "run", "--config", configuration, "--workers", "1"]
    argv += ["--admin", "127.0.0.1:0", "--shared-port", "0", "--set", "headers_timeout_s=60"]
    daemon = site.launch(argv, folder)
    daemon.wait_log(_READY, timeout_s=_READY_TIMEOUT_S)
    (worker,) = (process.pid for process in procfs.tree([daemon.pid]) if process.pid != daemon.pid)
    return address, worker, daemon.pid


def _settle(worker: int) -> None:
    """Wait until the worker has nothing to do."""
    deadline = time.monotonic() + _TIMEOUT_S
    used = -1
    while (now := procfs.cpu_us([worker])) != used and time.monotonic() < deadline:
        used = now
        time.sleep(0.3)  # noqa: TID251 - longer than the clock tick of processor times


if __name__ == "__main__":
    sys.exit(main())
