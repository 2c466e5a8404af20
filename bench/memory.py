# SPDX-License-Identifier: Apache-2.0
"""What clients cost in memory: a fresh gateway with one worker per row, many clients of one kind, the worker's resident memory.

    python -m bench.memory                     the rows of docs/tuning.md, about a minute
    python -m bench.memory --scale 0.1         a tenth of the clients

"each" is the peak above what the worker held before its clients came, by their number; "later" the same after they have stayed as
they are for a while (flat means equal), "left" what is still held when they have gone. What kernel sockets hold is not in it.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import machine, procfs
from bench.daemon import DaemonError
from bench.net import free_address
from bench.peers import PeerMissing, Site
from bench.peers.nginx import launch_nginx
from bench.upstream import upstream_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.net import Address

__all__ = ["KINDS", "Kind", "Row", "main", "measure"]

_BIG_BYTES = 100 * 1024 * 1024
_STAY_S = 5.0
_GONE_S = 3.0
_TIMEOUT_S = 30.0
_READY = '"event":"ready"'

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
    """The worker's resident memory in bytes: before, at the peak, after a while, when the clients had gone."""

    name: str
    count: int
    before: int
    peak: int
    later: int
    left: int


def _ask(sock: socket.socket) -> None:
    """Be served once and stay."""
    sock.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
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
    """Measure every kind and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description="What clients cost in memory.")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of clients (default %(default)s)")
    options = parser.parse_args(argv)
    console = Console(width=max(Console().width, 120))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    table = Table("clients", "number", "each", "later", "left", "worker before", "peak")
    try:
        for kind in KINDS:
            with console.status(kind.name):
                row = measure(kind, max(1, round(kind.count * options.scale)))
            each, later = ((value - row.before) / row.count / 1024 for value in (row.peak, row.later))
            whole = [f"{value / 1e6:.0f} MB" for value in (row.left - row.before, row.before, row.peak)]
            table.add_row(row.name, f"{row.count:,}", f"{each:.1f} KiB", f"{later:.1f} KiB", *whole)
    except (DaemonError, PeerMissing, OSError) as error:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        return 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    console.print(table)
    described = machine.describe(machine.split_cpus())
    console.print(", ".join(f"{name} {described[name]}" for name in ("python", "kernel", "arch", "cpus")), highlight=False)
    return 0


def measure(kind: Kind, count: int) -> Row:
    """Start a gateway, let clients come, stay and go.

    Raises:
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx is not installed.
        OSError: a client was not served.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        site = Site(directory=directory, cpus=(), upstreams=upstream_addresses(), stack=stack)
        address, worker = _start(site)
        with socket.create_connection(address, timeout=_TIMEOUT_S) as first:
            _ask(first)
        before = _forget_peak(worker)
        clients = [stack.enter_context(socket.socket()) for _ in range(count)]
        for client in clients:
            client.settimeout(_TIMEOUT_S)
            client.connect(address)
            kind.act(client)
        _settle(worker)
        peak = _status(worker, "VmHWM:")
        time.sleep(_STAY_S)  # noqa: TID251 - the time is what is measured
        later = _status(worker, "VmRSS:")
        for client in clients:
            client.close()
        time.sleep(_GONE_S)  # noqa: TID251
        left = _status(worker, "VmRSS:")
    return Row(name=kind.name, count=count, before=before, peak=peak, later=later, left=left)


def _start(site: Site) -> tuple[Address, int]:
    """Start upstream and gateway; return where the Service is and the worker's process id."""
    with (site.directory / "big").open("wb") as big:
        big.truncate(_BIG_BYTES)
    launch_nginx(site, "upstream", _UPSTREAM.format(first=site.upstreams[0], root=site.directory))
    address = free_address()
    folder = site.folder("gateway")
    configuration = folder / "config"
    configuration.mkdir()
    (configuration / "web.yaml").write_text(_MANIFEST.format(address=address, upstream=site.upstreams[0]))
    argv: list[str | Path] = [sys.executable, "-m", "acmgproxy", "run", "--config", configuration, "--workers", "1"]
    argv += ["--admin", "127.0.0.1:0", "--shared-port", "0", "--set", "headers_timeout_s=60"]
    daemon = site.launch(argv, folder)
    daemon.wait_log(_READY)
    daemon.wait_answer(address, path="/", body=b"hello")
    (worker,) = (process.pid for process in procfs.tree([daemon.pid]) if process.pid != daemon.pid)
    return address, worker


def _settle(worker: int) -> None:
    """Wait until the worker has nothing to do."""
    deadline = time.monotonic() + _TIMEOUT_S
    used = -1
    while (now := procfs.cpu_us([worker])) != used and time.monotonic() < deadline:
        used = now
        time.sleep(0.3)  # noqa: TID251 - longer than the clock tick of processor times


def _forget_peak(pid: int) -> int:
    """Begin a new peak; return what the process holds now (man 5 proc: clear_refs)."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")
    return _status(pid, "VmRSS:")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    msg = f"process {pid} has no {name}"
    raise ProcessLookupError(msg)


if __name__ == "__main__":
    sys.exit(main())
