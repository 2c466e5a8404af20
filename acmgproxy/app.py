# SPDX-License-Identifier: Apache-2.0
"""The composition root: puts the gateway together and sees it through its life.

    files -> pipeline -> supervisor -> workers        each is told here who its neighbours are
              ^ |
              DNS

Life: read the directory, start workers, give them the first configuration, listen, say `ready`, follow changes; at SIGTERM or
Ctrl-C let the workers finish and exit 0, at a second one exit at once. What makes a start impossible (no such directory, a busy
address) is one line in the log and exit code 1.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from acmgproxy.io.admin import AdminServer
from acmgproxy.log import configure_log
from acmgproxy.metrics.collector import ConfigFacts, GatewayCollector
from acmgproxy.metrics.labels import Identities
from acmgproxy.settings import ProxySettings
from acmgproxy.sockets import AddressError, open_admin_socket, raise_open_files_limit
from acmgproxy.supervisor import Supervisor
from discovery.dns import Resolver
from discovery.files import FileSource
from discovery.objects import ObjectChanges
from discovery.pipeline import Pipeline
from routing.translate import TranslateOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from prometheus_client.registry import Collector
    from structlog.typing import FilteringBoundLogger

    from discovery.objects import SourceProblem
    from routing.diagnostics import Diagnostic
    from routing.specs import Specs, SpecsDiff

__all__ = ["Gateway", "RunOptions", "release", "run_gateway"]

SHARED_ADDRESS = "127.0.0.1"
"""Where the shared listener is in standalone mode; like the clusterIPs there, it is for this machine alone."""

RETRY_WATCH_S = 1.0
DIAGNOSE_AFTER_S = 0.2
"""Findings are looked for this long after a change, once for all changes in between: a log that comes later harms nobody."""

_NO_CHANGES = ObjectChanges({}, frozenset(), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `acmgproxy run` is told.

    Args:
        directory: where the objects are.
        workers: how many worker processes.
        admin: address and port of the admin server; port 0 takes a free one.
        access_log: "off", "-" for standard output, or a path.
        shared_port: port of the Host-routed listener; 0 for none.
        settings: of the workers, but for what is told above.
    """

    directory: Path
    workers: int
    admin: tuple[str, int]
    access_log: str = "off"
    shared_port: int = 0
    settings: ProxySettings = field(default_factory=ProxySettings)


class StartError(Exception):
    """The gateway cannot start; the text says why."""


def release() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("acmgproxy")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def run_gateway(options: RunOptions) -> int:
    """Run a gateway until it is told to stop; return the exit code."""
    raise_open_files_limit()
    return uvloop.run(_run(options, configure_log()))


async def _run(options: RunOptions, log: FilteringBoundLogger) -> int:
    return await Gateway(options, log).run()


class Gateway:
    """One gateway, all of it.

    Args:
        options: see RunOptions.
        log: the gateway's own log.
    """

    def __init__(self, options: RunOptions, log: FilteringBoundLogger) -> None:
        self._options = options
        self._log = log
        self._source = FileSource(options.directory)
        shared = ((SHARED_ADDRESS, options.shared_port),) if options.shared_port else ()
        self._resolver = Resolver(self._take_addresses)
        self._pipeline = Pipeline(TranslateOptions(shared_binds=shared), self._publish, look_up=self._resolver.watch)
        settings = replace(options.settings, workers=options.workers, access_log=options.access_log)
        self._supervisor = Supervisor(workers=options.workers, settings=settings, log=log)
        self._identities = Identities()
        self._changed_at = 0.0
        self._known_problems: frozenset[SourceProblem] = frozenset()
        self._known_diagnostics: frozenset[Diagnostic] = frozenset()
        self._diagnosing: asyncio.TimerHandle | None = None
        self._stop = asyncio.Event()
        self._exit_at_once = asyncio.Event()
        self._signal = 0

    def __repr__(self) -> str:
        return f"<Gateway {self._options.directory} {self._supervisor}>"

    async def run(self) -> int:
        """Start, serve, drain; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            changes = await self._first_look()
            admin = AdminServer(self, self._open_admin())
        except StartError as error:
            self._log.error("cannot start", reason=str(error))
            return 1
        self._supervisor.start()
        self._take(changes)
        await admin.start()
        watching = asyncio.create_task(self._watch())
        try:
            await self._serve(admin)
            code = await self._drain()
        except StartError as error:
            self._log.error("cannot start", reason=str(error))
            await self._supervisor.kill()
            code = 1
        finally:
            watching.cancel()
            await self._resolver.close()
            await admin.close()
        self._log.info("stopped", exit_code=code)
        return code

    # --- its life --------------------------------------------------------------------------------------------------------

    async def _first_look(self) -> ObjectChanges:
        directory = self._options.directory
        if not await asyncio.to_thread(directory.is_dir):
            raise StartError(f"{directory} is not a directory")
        changes = await asyncio.to_thread(self._source.look)
        return changes if changes is not None else _NO_CHANGES

    def _open_admin(self) -> socket.socket:
        try:
            return open_admin_socket(*self._options.admin)
        except AddressError as error:
            raise StartError(f"admin server: {error}") from error

    async def _serve(self, admin: AdminServer) -> None:
        """Wait for the end; say on the way that traffic is served.

        Raises:
            StartError: an address of the first configuration cannot be listened on.
        """
        started = asyncio.create_task(self._supervisor.wait_started())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((started, stop), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            return
        if errors := started.result():
            stop.cancel()
            raise StartError("; ".join(f"{bind}: {reason}" for bind, reason in sorted(errors.items())))
        listeners = self._supervisor.listeners()
        if not listeners:
            self._log.warning("nothing to listen on", hint="no Service has a loopback address as its clusterIP")
        self._log.info("ready", admin=admin.url, workers=self._options.workers, listeners=len(listeners))
        await stop

    async def _drain(self) -> int:
        self._log.info("draining", signal=signal.Signals(self._signal).name)
        drained = asyncio.create_task(self._supervisor.drain())
        at_once = asyncio.create_task(self._exit_at_once.wait())
        await asyncio.wait((drained, at_once), return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if drained.done():
            await drained
            return 0
        drained.cancel()
        await self._supervisor.kill()
        return 128 + self._signal

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            self._exit_at_once.set()
        self._signal = number
        self._stop.set()

    # --- configuration ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                async for changes in self._source.changes():
                    self._take(changes)
            except Exception:
                self._log.exception("watching failed, and begins anew", directory=str(self._options.directory))
            await asyncio.sleep(RETRY_WATCH_S)

    def _take(self, changes: ObjectChanges) -> None:
        self._pipeline.apply(changes)
        self._report_problems()
        if self._diagnosing is None:
            self._diagnosing = asyncio.get_running_loop().call_later(DIAGNOSE_AFTER_S, self._report_diagnostics)

    def _take_addresses(self, addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...]) -> None:
        self._pipeline.take_addresses(addresses, problems)
        self._report_problems()

    def _publish(self, specs: Specs, change: SpecsDiff) -> None:
        self._changed_at = time.time()
        self._identities.update(specs.identities)
        self._supervisor.publish(specs, change)
        if change.version > 1:
            self._log.info("configuration changed", version=change.version)

    def _report_problems(self) -> None:
        """Log what is newly refused and what no longer is."""
        problems = self._pipeline.problems
        for problem in problems:
            if problem not in self._known_problems:
                what = {"file": problem.origin, "object": _name(problem), "field": problem.field, "reason": problem.reason}
                self._log.error("refused, the last good version stays in force", **what)
        for solved in self._known_problems - set(problems):
            self._log.info("no longer refused", file=solved.origin, object=_name(solved), field=solved.field)
        self._known_problems = frozenset(problems)

    def _report_diagnostics(self) -> None:
        """Log new findings. Not after every change: they may take a translation of everything."""
        self._diagnosing = None
        diagnostics = self._pipeline.diagnostics()
        for found in diagnostics:
            if found not in self._known_diagnostics:
                write = {"error": self._log.error, "warning": self._log.warning, "info": self._log.info}[found.severity]
                write(found.message, code=found.code, object=_name(found), field=found.field, remedy=found.remedy)
        self._known_diagnostics = frozenset(diagnostics)

    # --- what the admin server shows -----------------------------------------------------------------------------------------

    def not_ready_because(self) -> str:
        """See AdminView."""
        return "" if self._supervisor.is_ready else self._supervisor.not_ready_because()

    def listeners(self) -> list[dict[str, Any]]:
        """See AdminView."""
        return [
            {
                **status.bind._asdict(),
                "bound": all(status.workers),
                "workers": {str(number): is_bound for number, is_bound in enumerate(status.workers)},
                "error": status.error or None,
            }
            for status in self._supervisor.listeners()
        ]

    def config(self) -> dict[str, Any]:
        """See AdminView."""
        specs: dict[str, Any] = msgspec.to_builtins(self._supervisor.specs)
        return specs | {
            "version": self._supervisor.version,
            "worker_versions": {str(worker.number): worker.version for worker in self._supervisor.health()},
            "diagnostics": msgspec.to_builtins(self._pipeline.diagnostics()),
            "problems": msgspec.to_builtins(self._pipeline.problems),
            "refused_by_workers": {str(number): reason for number, reason in self._supervisor.refusals().items()},
        }

    async def metrics(self) -> Collector:
        """See AdminView."""
        totals = await self._supervisor.refresh_totals()
        listeners = self._supervisor.listeners()
        bound = sum(all(status.workers) for status in listeners)
        return GatewayCollector(
            release=release(),
            totals=totals,
            identities=self._identities,
            workers=self._supervisor.health(),
            config=ConfigFacts(
                version=self._supervisor.version,
                changed_at=self._changed_at,
                problems=len(self._pipeline.problems),
                diagnostics=Counter(found.severity for found in self._pipeline.diagnostics()),
                listeners_bound=bound,
                listeners_failed=len(listeners) - bound,
            ),
            is_ready=self._supervisor.is_ready,
        )


def _name(about: SourceProblem | Diagnostic) -> str:
    return " ".join(part for part in (about.kind, "/".join(part for part in (about.namespace, about.name) if part)) if part)
