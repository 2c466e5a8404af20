# SPDX-License-Identifier: Apache-2.0
"""A gateway in a big cluster: how long until it knows everything, what that costs, and how soon a change has its effect.

    make bench-scale                                     5,000 Services, 50,000 endpoints and Pods; two minutes
    python -m bench.scale --services 500 --seconds 5     a small one

The API server (that of the tests), the upstreams, the load and the changes share one CPU, the gateway's supervisor and its one
worker have another. Load comes at a fixed rate (bench.openloop) to one Service, in turn without and with changes all around
(bench.churn), while probes ask as often in both.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import machine, procfs
from bench.churn import Churn, ChurnError
from bench.cluster import Cluster, start_api
from bench.daemon import DaemonError
from bench.load import BODY, LoadError, Sample
from bench.net import free_address
from bench.openloop import Offering, offer
from bench.peers import PeerMissing, Site
from bench.peers.nginx import launch_nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.daemon import Daemon
    from bench.net import Address

__all__ = ["AIMS", "Figures", "main", "measure"]

_RESULT = Path(__file__).with_name("results") / "scale.json"
_ROUNDS = 2
_START_TIMEOUT_S = 120.0

_UPSTREAMS = """\
  default_type text/plain;
  server {{ listen {steady[0]}:{steady[1]}; location / {{ return 200 "{body}"; }} }}
  server {{ listen {first[0]}:{first[1]}; listen {second[0]}:{second[1]}; location / {{ return 200 "$server_addr;"; }} }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to measure: `captured` Services have gateway ports; `rate` is of changes, `load` of requests, `seconds` of a phase."""

    services: int
    endpoints: int
    captured: int
    probes: int
    rate: int
    load: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Figures:
    """What was measured. Times of the start count from the start of the process; processor time is of one CPU."""

    source_sync_s: float = 0.0
    ready_s: float = 0.0
    supervisor_start_cpu_s: float = 0.0
    worker_start_cpu_s: float = 0.0
    supervisor_mb: float = 0.0
    worker_mb: float = 0.0
    supervisor_after_mb: float = 0.0
    worker_after_mb: float = 0.0
    changes: int = 0
    changes_per_s: float = 0.0
    probed_changes: int = 0
    skipped: int = 0
    effect_p50_ms: float = 0.0
    effect_p99_ms: float = 0.0
    effect_max_ms: float = 0.0
    idle_p50_us: int = 0
    idle_p99_us: int = 0
    churn_p50_us: int = 0
    churn_p99_us: int = 0
    p99_ratio: float = 0.0
    supervisor_cpu_percent: float = 0.0
    worker_cpu_percent_idle: float = 0.0
    worker_cpu_percent_churn: float = 0.0


AIMS = {"ready_s": 5.0, "worker_mb": 200.0, "effect_p99_ms": 100.0, "p99_ratio": 1.5}
"""What each figure is not to exceed: about what one node of a mesh of this size is given today."""


class _Gateway:
    """The gateway under test, and its processes."""

    def __init__(self, site: Site, kubeconfig: Path) -> None:
        self.address = free_address()[0]
        self._health = free_address()
        argv: list[str | Path] = [sys.executable, "-m", "acmgproxy", "run", "--kubernetes", "--kubeconfig", kubeconfig]
        argv += ["--listen", self.address, "--workers", "1", "--health", f"{self._health[0]}:{self._health[1]}"]
        argv += ["--admin", "127.0.0.1:0", "--shared-port", str(free_address()[1]), "--set", "drain_accept_s=0"]
        self.started_at = time.monotonic()
        self.daemon: Daemon = site.launch(argv, site.folder("gateway"))

    def wait(self) -> tuple[float, float]:
        """Return when the source was read and when everything was ready, in seconds from the start.

        Raises:
            DaemonError: it ended, or was not ready in time.
        """
        synced = 0.0
        while (passed := time.monotonic() - self.started_at) < _START_TIMEOUT_S:
            ready, reason = self._ask()
            if reason and not synced and "kubernetes" not in reason:
                synced = passed
            if ready:
                return synced or passed, passed
            time.sleep(0.005)  # noqa: TID251 - another process can only be polled
        raise self.daemon.error(f"was not ready within {_START_TIMEOUT_S} s")

    def _ask(self) -> tuple[bool, str]:
        connection = http.client.HTTPConnection(*self._health, timeout=30)
        try:
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            return answer.status == http.HTTPStatus.OK, answer.read().decode()
        except OSError:
            return False, ""
        finally:
            connection.close()

    def processes(self) -> tuple[procfs.Process, procfs.Process]:
        """Return supervisor and worker."""
        found = procfs.tree([self.daemon.pid])
        supervisor = next(one for one in found if one.pid == self.daemon.pid)
        return supervisor, max((one for one in found if one.pid != self.daemon.pid), key=lambda one: one.rss_bytes)


def measure(options: Options, progress: Callable[[str], None]) -> tuple[Figures, dict[str, object]]:
    """Run everything; return the figures and the machine.

    Raises:
        DaemonError: a process did not start, or ended.
        LoadError: a request failed.
        ChurnError: a change failed, or had no effect.
        PeerMissing: nginx is not installed.
    """
    cpus = machine.split_cpus()
    described = machine.describe(cpus)
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        stack.callback(os.sched_setaffinity, 0, before)
        if cpus.load:
            os.sched_setaffinity(0, cpus.load)
        steady, first = free_address(), free_address()
        upstreams = (first, free_address(first[1]))
        here = Site(directory=directory, cpus=cpus.load, upstreams=upstreams, stack=stack)
        launch_nginx(here, "upstream", _UPSTREAMS.format(steady=steady, first=first, second=upstreams[1], body=BODY.decode()))
        progress("making the cluster")
        cluster = Cluster(
            services=options.services,
            endpoints=options.endpoints,
            captured=options.captured,
            steady=steady,
            probed=first,
            probes=options.probes,
        )
        kubeconfig = directory / "kubeconfig"
        count = cluster.write(directory / "objects")
        progress(f"starting the API server with {count:,} objects")
        _, api = start_api(here, directory / "objects", kubeconfig)
        progress("starting the gateway")
        gateway = _Gateway(Site(directory=directory, cpus=cpus.proxy, upstreams=upstreams, stack=stack), kubeconfig)
        figures = Figures()
        figures.source_sync_s, figures.ready_s = (round(value, 2) for value in gateway.wait())
        used = [round(process.cpu_us / 1e6, 2) for process in gateway.processes()]
        figures.supervisor_start_cpu_s, figures.worker_start_cpu_s = used
        figures.supervisor_mb, figures.worker_mb = _memory(gateway)
        uvloop.run(_phases(options, cluster, gateway, figures, api=api, upstreams=upstreams, progress=progress))
        figures.supervisor_after_mb, figures.worker_after_mb = _memory(gateway)
    return figures, described


def _memory(gateway: _Gateway) -> tuple[float, float]:
    supervisor, worker = (round(process.rss_bytes / 1e6, 1) for process in gateway.processes())
    return supervisor, worker


async def _phases(
    options: Options,
    cluster: Cluster,
    gateway: _Gateway,
    figures: Figures,
    *,
    api: str,
    upstreams: tuple[Address, Address],
    progress: Callable[[str], None],
) -> None:
    """Measure without and with changes, in turn, and add up."""
    churn = Churn(cluster, api=api, gateway=gateway.address, upstreams=upstreams)
    await churn.start()
    target = (gateway.address, cluster.steady.gateway_port)
    samples = {False: Sample(), True: Sample()}
    cpu_us = {False: [0, 0], True: [0, 0]}
    try:
        for round_ in range(1, _ROUNDS + 1):
            for changing in (False, True):
                progress(f"round {round_} of {_ROUNDS}: {f'{options.rate} changes/s' if changing else 'no changes'}")
                before = [process.cpu_us for process in gateway.processes()]
                load = asyncio.to_thread(offer, target, Offering(rate=options.load), seconds=options.seconds)
                async with asyncio.TaskGroup() as group:
                    offered = group.create_task(load)
                    group.create_task(churn.run(rate=options.rate if changing else 0, seconds=options.seconds))
                samples[changing].add(offered.result().sample)
                for at, process in enumerate(gateway.processes()):
                    cpu_us[changing][at] += process.cpu_us - before[at]
    except* (ChurnError, LoadError) as group_error:
        raise group_error.exceptions[0] from group_error
    finally:
        churn.stop()
    _fill(figures, options, churn, samples, cpu_us)


def _fill(figures: Figures, options: Options, churn: Churn, samples: dict[bool, Sample], cpu_us: dict[bool, list[int]]) -> None:
    whole_s = options.seconds * _ROUNDS
    effects = churn.effects
    if not effects.seconds:
        raise ChurnError("no change was timed; give it more seconds")
    figures.changes, figures.skipped, figures.probed_changes = effects.changes, effects.skipped, len(effects.seconds)
    figures.changes_per_s = round(effects.changes / whole_s, 1)
    figures.effect_p50_ms = round(effects.percentile_ms(50), 1)
    figures.effect_p99_ms = round(effects.percentile_ms(99), 1)
    figures.effect_max_ms = round(effects.percentile_ms(100), 1)
    figures.idle_p50_us, figures.idle_p99_us = (samples[False].percentile_us(percent) for percent in (50, 99))
    figures.churn_p50_us, figures.churn_p99_us = (samples[True].percentile_us(percent) for percent in (50, 99))
    figures.p99_ratio = round(figures.churn_p99_us / figures.idle_p99_us, 2)
    figures.supervisor_cpu_percent = round(cpu_us[True][0] / whole_s / 1e4, 1)
    figures.worker_cpu_percent_idle = round(cpu_us[False][1] / whole_s / 1e4, 1)
    figures.worker_cpu_percent_churn = round(cpu_us[True][1] / whole_s / 1e4, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when it failed, 2 when --check was given and an aim was missed."""
    parsed = _parser().parse_args(argv)
    console = Console(width=max(Console().width, 100))
    names = ("services", "endpoints", "captured", "probes", "rate", "load", "seconds")
    options = Options(**{name: getattr(parsed, name) for name in names})
    try:
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        ) as bar:
            task = bar.add_task("")
            figures, described = measure(options, lambda text: bar.update(task, description=text))
    except (DaemonError, LoadError, ChurnError, PeerMissing) as error:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    _show(figures, options, described, console)
    versions = {name: metadata.version(name) for name in ("acmgproxy", "aiohttp", "kubernetes-asyncio", "msgspec", "uvloop")}
    result = {
        "machine": described,
        "versions": versions | {"python": platform.python_version()},
        "options": asdict(options),
        "figures": asdict(figures),
        "aims": AIMS,
    }
    parsed.output.parent.mkdir(parents=True, exist_ok=True)
    parsed.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {parsed.output}", highlight=False)
    return 2 if parsed.check and not all(getattr(figures, name) <= aim for name, aim in AIMS.items()) else 0


def _show(figures: Figures, options: Options, described: dict[str, object], console: Console) -> None:
    console.print(
        f"{options.services:,} Services ({options.captured:,} captured), {options.services * options.endpoints:,} endpoints and",
        f"Pods; {options.load:,} requests/s, {options.rate} changes/s: {figures.changes:,}, {figures.probed_changes:,} timed",
        highlight=False,
    )
    machine_text = ", ".join(f"{name} {described[name]}" for name in ("cpu", "cpus", "kernel", "python", "load_average"))
    console.print(machine_text, highlight=False)
    table = Table("", "", "aim", "")
    for name, value in asdict(figures).items():
        aim = AIMS.get(name)
        verdict = "" if aim is None else "[green]met[/]" if value <= aim else "[red]missed[/]"
        table.add_row(name, f"{value:,}", "" if aim is None else f"{aim:g}", verdict)
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="A gateway in a big cluster.")
    parser.add_argument("--services", type=int, default=5000, help="Services in the cluster (default %(default)s)")
    parser.add_argument("--endpoints", type=int, default=10, help="endpoints and Pods of each (default %(default)s)")
    parser.add_argument("--captured", type=int, default=500, help="of them with a gateway port (default %(default)s)")
    parser.add_argument("--probes", type=int, default=4, help="Services whose changes are timed (default %(default)s)")
    parser.add_argument("--rate", type=int, default=200, help="changes per second (default %(default)s)")
    parser.add_argument("--load", type=int, default=500, help="requests per second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=27.0, help="length of each of the four phases (default %(default)s)")
    parser.add_argument("--output", type=Path, default=_RESULT, help="JSON file to write (default %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 2 when an aim is missed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
