# SPDX-License-Identifier: Apache-2.0
"""One soak: starts everything, does harm by schedule, watches, and returns all that was seen.

The schedule repeats every minute. Workers are replaced (SIGHUP) and the older one is killed only in the first quarter; after that
only the younger is, so that one worker lives for three quarters of the run: growth shows in what lives long.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import platform
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from bench import machine, procfs
from bench.cluster import PROJECT
from bench.net import free_address
from bench.peers import Site as Stage
from bench.soak.connections import kill_and_tell, peer_ports
from bench.soak.records import Fault, Plan, Process, Result, Sample, Tally
from bench.soak.world import PLURALS, Api, World
from routing.capture import GATEWAY_PORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.daemon import Daemon

__all__ = ["EARLY", "EVENTS", "PERIOD_S", "Soak", "is_early"]

PERIOD_S = 60.0
EARLY = 0.25
SAMPLE_S = 2.0
REST_S = 30.0
_WATCHES_S = 75.0
"""A watch that failed again and again asks once in 30 to 60 s (discovery.kube.backoff)."""
DRAIN_S = 5.0

EVENTS: tuple[tuple[float, str], ...] = (
    (5.0, "endpoints crash"),
    (15.0, "workers replaced"),
    (35.0, "worker killed"),
    (40.0, "API server restarted"),
    (45.0, "API server hangs"),
    (52.0, "API server away"),
)
"""What happens in a period, and when. Replacing two workers takes a second, and each lets its tunnels live for `DRAIN_S`."""

_ONLY_IN = {"API server restarted": 0, "API server away": 1}
"""Of three periods the one in which this happens: watches wait longer and longer if it happens all the time."""

_LASTS_S = {"endpoints crash": 2.0, "workers replaced": 15.0, "API server hangs": 4.0, "API server away": 5.0}


def is_early(at: float, seconds: float) -> bool:
    """Whether a moment belongs to the part of the run in which no worker lives long."""
    return at < seconds * EARLY


class Soak:
    """One run.

    Args:
        plan: what was asked for.
        progress: told what happens, for people.

    Attributes:
        result: all that is known so far.
    """

    def __init__(self, plan: Plan, progress: Callable[[float, str], None]) -> None:
        self._plan = plan
        self._progress = progress
        self._stack = ExitStack()
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-soak-")))
        self._stage = Stage(directory=self._directory, cpus=(), upstreams=(("", 0), ("", 0)), stack=self._stack)
        self._ports = (free_address()[1], free_address()[1], free_address()[1])
        self._world = World(self._ports, plan.seed)
        self._api = Api(self._stage)
        self._health = free_address()
        self._gateway: Daemon | None = None
        self._crashing: Daemon | None = None
        self._clients: Daemon | None = None
        self._read = 0
        self._resuming: asyncio.Task[None] | None = None
        self.result = Result(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            plan=plan,
            machine=machine.describe(machine.Cpus(load=frozenset(), proxy=frozenset())),
            versions={name: metadata.version(name) for name in ("acmgproxy", "uvloop", "httptools", "msgspec")}
            | {"python": platform.python_version()},
            began_at=0.0,
            ended_at=0.0,
            is_partial=True,
            tallies=[],
            faults=[],
            samples=[],
            before=Sample(),
            at_rest=Sample(),
            changes={},
            visits=0,
            problems=self._world.problems,
        )

    def __repr__(self) -> str:
        return f"<Soak {self._plan} faults={len(self.result.faults)}>"

    def run(self) -> Result:
        """Run it all; Ctrl-C ends it early, and what is known is returned then, too.

        Raises:
            DaemonError: a process did not start.
        """
        with self._stack:
            self._progress(0.0, "starting")
            self._start()
            asyncio.run(self._live())
        return self.result

    def _start(self) -> None:
        self._api.start(self._world.all_objects())
        steady, self._crashing = self._launch_upstream(self._ports[0], self._ports[2]), self._launch_crashing()
        steady.wait_log("ready")
        self._crashing.wait_log("ready")
        argv: list[str | Path] = [sys.executable, "-m", "acmgproxy", "run", "--kubernetes", "--kubeconfig", self._api.kubeconfig]
        argv += ["--listen", self._world.site.address, "--workers", str(self._plan.workers), "--admin", "127.0.0.1:0"]
        argv += ["--health", f"{self._health[0]}:{self._health[1]}", "--shared-port", "0"]
        argv += ["--set", "drain_accept_s=0", "--set", f"drain_timeout_s={DRAIN_S:g}"]
        self._gateway = self._stage.launch(argv, self._stage.folder("gateway"))
        self._gateway.wait_log('"event":"ready"', timeout_s=60.0)
        self._world.may_change.set()

    def _launch_upstream(self, port: int, echo_port: int) -> Daemon:
        argv = ["env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "bench.soak.upstream", str(port), str(echo_port)]
        folder = self._directory / f"upstream-{port}"
        folder.mkdir(exist_ok=True)
        return self._stage.launch(argv, folder)

    def _launch_crashing(self) -> Daemon:
        return self._launch_upstream(self._ports[1], 0)

    # --- the run ----------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        self.result.began_at = monotonic()
        self.result.before = self._sample()
        argv = ["env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "bench.soak.clients"]
        self._clients = self._stage.launch([*argv, msgspec.json.encode(self._world.site).decode()], self._stage.folder("clients"))
        tasks = [asyncio.create_task(one) for one in (self._harm(), self._watch(), self._world.change(self._api.url))]
        with suppress(TimeoutError):
            await asyncio.wait_for(_first_of(stop, tasks), self._plan.seconds)
        self.result.is_partial = stop.is_set()
        self.result.ended_at = monotonic()
        if self._resuming is not None:
            tasks.append(self._resuming)
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, Exception):
                self._world.problems.append(f"the soak itself failed: {found!r}")
        await self._end()

    async def _end(self) -> None:
        """Let every client have its last answer, and look at what remains when all have left."""
        assert self._clients is not None
        assert self._gateway is not None
        self._progress(self._elapsed(), "coming to rest")
        self._api.signal(signal.SIGCONT)
        self._clients.signal(signal.SIGTERM)
        await _until(lambda: not _is_alive(self._clients), REST_S + 10.0)
        self._read_tallies()
        await _until(self._is_at_rest, REST_S)
        self.result.at_rest = self._sample()
        self.result.changes = dict(self._world.changes)
        self.result.visits = self._world.visits
        log = self._gateway.log.read_text(encoding="utf-8", errors="replace")
        for line in log.splitlines():
            if "Traceback" in line or '"exception"' in line or '"level":"critical"' in line:
                self._world.problems.append(f"the gateway's log says: {line[:1000]}")
        for daemon in (self._clients, self._gateway):
            await asyncio.to_thread(daemon.stop)

    def _is_at_rest(self) -> bool:
        gauges = self._gauges()
        return all(not value for name in ("downstream_connections", "tunnels") for value in gauges.get(name, {}).values())

    def _elapsed(self) -> float:
        return monotonic() - self.result.began_at

    # --- harm -------------------------------------------------------------------------------------------------------------

    async def _harm(self) -> None:
        for period in range(10**6):
            for offset, name in EVENTS:
                await asyncio.sleep(max(0.0, period * PERIOD_S + offset - self._elapsed()))
                early = is_early(self._elapsed(), self._plan.seconds)
                if (name == "workers replaced" and not early) or period % 3 != _ONLY_IN.get(name, period % 3):
                    continue
                self._progress(self._elapsed(), name)
                fault = Fault(at=monotonic(), name=name)
                await self._do(fault, early=early)
                fault.until = monotonic()
                self.result.faults.append(fault)

    async def _do(self, fault: Fault, *, early: bool) -> None:
        assert self._gateway is not None
        assert self._crashing is not None
        match fault.name:
            case "endpoints crash":
                self._crashing.signal(signal.SIGKILL)
                await asyncio.sleep(_LASTS_S[fault.name])
                self._crashing = await asyncio.to_thread(self._launch_crashing)
                await asyncio.to_thread(self._crashing.wait_log, "ready")
            case "workers replaced":
                fault.kinds = ["WebSocket messages"]
                await self._replace_workers(fault)
            case "worker killed":
                pids = self._workers()
                fault.connections = kill_and_tell(pids[0] if early else pids[-1], _PORTS)
            case "API server restarted":
                await self._take_api_away(0.0)
            case "API server hangs":
                self._world.may_change.clear()
                self._api.signal(signal.SIGSTOP)
                await asyncio.sleep(_LASTS_S[fault.name])
                self._api.signal(signal.SIGCONT)
                if self._resuming is None or self._resuming.done():
                    self._world.may_change.set()
            case _:
                await self._take_api_away(_LASTS_S[fault.name])

    async def _replace_workers(self, fault: Fault) -> None:
        """Send SIGHUP, and note which connections old workers have until they go: new ones come in until it is their turn."""
        assert self._gateway is not None
        old = self._workers()
        lost: set[int] = set()
        self._gateway.signal(signal.SIGHUP)
        while self._elapsed() < fault.at - self.result.began_at + _LASTS_S[fault.name]:
            for pid in old:
                with suppress(OSError):
                    lost |= set(peer_ports(pid, _PORTS))
            await asyncio.sleep(0.2)
        fault.connections = sorted(lost)
        if left := set(old) & set(self._workers()):
            self._world.problems.append(f"workers {left} were not replaced within {_LASTS_S[fault.name]} s of SIGHUP")

    async def _take_api_away(self, seconds: float) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
        self._world.may_change.clear()
        self._api.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._api.start, self._world.all_objects())
        self._resuming = asyncio.create_task(self._resume_changes())

    async def _resume_changes(self) -> None:
        """Let changes go on once the gateway hears of every kind again that changes here.

        Each watch comes back in its own time. While that of Pods is still away, endpoints of new Pods belong to no subset, so
        that a rollout in just these seconds could leave a subset without endpoints: a known limit, which is not looked for here.
        """
        back_at = monotonic()
        metrics = tuple(f'acmg_watch_stale_seconds{{kind="{kind}"' for kind in PLURALS)

        def hear() -> bool:
            stale = [float(line.rpartition(" ")[2]) for line in self._metrics().splitlines() if line.startswith(metrics)]
            return len(stale) == len(metrics) and max(stale) < monotonic() - back_at

        await _until(hear, _WATCHES_S)
        if not await asyncio.to_thread(hear):
            self._world.problems.append(f"the gateway's watches were not back {_WATCHES_S} s after the API server")
        self._world.may_change.set()

    def _workers(self) -> list[int]:
        """Return the workers' processes, the oldest first."""
        return [process.pid for process in self._processes() if process.role == "worker"]

    # --- watching ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        turn = 0
        while True:
            with suppress(OSError, ValueError, ProcessLookupError, http.client.HTTPException):
                self.result.samples.append(await asyncio.to_thread(self._sample, has_gauges=turn % 5 == 0))
            self._read_tallies()
            if not _is_alive(self._clients):
                raise RuntimeError("the clients have ended")
            turn += 1
            await asyncio.sleep(SAMPLE_S)

    def _sample(self, *, has_gauges: bool = True) -> Sample:
        return Sample(at=monotonic(), processes=self._processes(), gauges=self._gauges() if has_gauges else {})

    def _processes(self) -> list[Process]:
        """Return supervisor and workers, the oldest first."""
        assert self._gateway is not None
        found = []
        for process in procfs.tree([self._gateway.pid]):
            with suppress(OSError):
                is_worker = b"acmgproxy.worker" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
                role = "supervisor" if process.pid == self._gateway.pid else "worker" if is_worker else "other"
                started = int(Path(f"/proc/{process.pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19])
                descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
                one = Process(pid=process.pid, role=role, rss=process.rss_bytes, descriptors=descriptors)
                found.append((started, process.pid, one))
        return [one for *_, one in sorted(found, key=lambda entry: entry[:2])]

    def _gauges(self) -> dict[str, dict[str, float]]:
        """Return the gauges that each worker has, by name."""
        text = self._metrics()
        found: dict[str, dict[str, float]] = {}
        for line in text.splitlines():
            name, brace, rest = line.partition('{worker="')
            if brace and name.startswith("acmg_") and not name.startswith("acmg_worker_"):
                worker, _, value = rest.partition('"} ')
                found.setdefault(name.removeprefix("acmg_"), {})[worker] = float(value)
        return found

    def _metrics(self) -> str:
        connection = http.client.HTTPConnection(*self._health, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _read_tallies(self) -> None:
        assert self._clients is not None
        lines = self._clients.log.read_text(encoding="utf-8").split("\n")[:-1]
        for line in lines[self._read :]:
            if line.startswith("{"):
                self.result.tallies.append(msgspec.json.decode(line, type=Tally))
            elif line:
                self._world.problems.append(f"the clients say: {line}")
        self._read = len(lines)


_PORTS = frozenset(GATEWAY_PORTS)


async def _first_of(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the wish to stop, or for the first task that ends, which none should."""
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until it is true, for some time at most."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        with suppress(OSError):
            if await asyncio.to_thread(condition):
                return
        await asyncio.sleep(0.2)


def _is_alive(daemon: Daemon | None) -> bool:
    return daemon is not None and daemon.is_alive
