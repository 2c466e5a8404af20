# SPDX-License-Identifier: Apache-2.0
"""The gateway's life.

    files or Kubernetes -> pipeline -> supervisor -> workers        each is told here who its neighbours are
                             ^ |
                             DNS

Life: answer health probes, start workers, wait for the first complete set of objects, give it to the workers, listen, say
`ready`, follow changes; at SIGTERM or Ctrl-C let the workers finish and exit 0, at a second one exit at once. SIGTERM is how a
cluster takes a gateway out: traffic still comes for a while and is accepted (`drain_accept_s`). Ctrl-C is a person who waits.
SIGHUP replaces the workers by new processes, which run the code that is installed by then, without failing a request.

What makes a start impossible (no such directory, a busy address) is one line in the log and exit code 1. An API server that is
away does not: at the start the gateway waits for it without listening, later it serves the last configuration for ever.
"""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import uvloop

from acmgproxy.access_log import check_sink
from acmgproxy.app.options import StartError
from acmgproxy.app.reports import Reports
from acmgproxy.app.sources import LOOK_EVERY_S, WatchLog, open_source
from acmgproxy.app.view import GatewayView
from acmgproxy.io.admin import ALL_PAGES, HEALTH_PAGES, AdminServer
from acmgproxy.log import configure_log
from acmgproxy.log_levels import Threshold
from acmgproxy.sockets import AddressError, open_admin_socket, raise_open_files_limit
from acmgproxy.supervisor import Supervisor
from discovery.dns import Resolver
from discovery.pipeline import Pipeline
from routing.resources import EndpointSlice, Pod
from routing.specs import Specs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.app.options import RunOptions
    from acmgproxy.app.sources import OpenSource, Source
    from acmgproxy.metrics.kube import WatchState
    from discovery.objects import ObjectChanges, SourceProblem
    from routing.specs import SpecsDiff

__all__ = ["Gateway", "run_gateway"]

RETRY_WATCH_S = 1.0
"""Pause after a defect of a source."""

_ROUTINE_KINDS = frozenset({EndpointSlice.kind, Pod.kind})
_ROUTINE_SECTIONS = frozenset({"endpoints", "identities", "callers"})
"""What changes all the time in a cluster, and is not worth a line in the log."""


def run_gateway(options: RunOptions) -> int:
    """Run a gateway until it is told to stop; return the exit code."""
    raise_open_files_limit()
    threshold = Threshold()
    return uvloop.run(_run(options, configure_log(threshold=threshold), threshold))


async def _run(options: RunOptions, log: FilteringBoundLogger, threshold: Threshold) -> int:
    return await Gateway(options, log, threshold).run()


class Gateway:
    """One gateway, all of it.

    Args:
        options: see RunOptions.
        log: the gateway's own log.
        threshold: its level.
    """

    def __init__(self, options: RunOptions, log: FilteringBoundLogger, threshold: Threshold | None = None) -> None:
        self._options = options
        self._log = log
        self._open: OpenSource | None = None
        self._resolver = Resolver(self._take_addresses)
        self._pipeline = Pipeline(options.translate_options(), self._publish, look_up=self._resolver.watch)
        self._settings = replace(options.settings, workers=options.workers, access_log=options.access_log)
        self._supervisor = Supervisor(
            workers=options.workers, settings=self._settings, log=log, must_listen=options.kubernetes is None,
            threshold=threshold,
        )  # fmt: skip
        self._reports = Reports(log, self._pipeline.diagnostics)
        self._watch_log = WatchLog(log)
        self._view = GatewayView(
            supervisor=self._supervisor, pipeline=self._pipeline, reports=self._reports, watches=self._watches
        )
        self._stop = asyncio.Event()
        self._exit_at_once = asyncio.Event()
        self._signal = 0

    def __repr__(self) -> str:
        return f"<Gateway {self._options.directory or 'kubernetes'} {self._supervisor}>"

    async def run(self) -> int:
        """Start, serve, drain; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        async with AsyncExitStack() as stack:
            try:
                code = await self._live(stack)
            except StartError as error:
                self._log.error("cannot start", reason=str(error))
                code = 1
        self._log.info("stopped", exit_code=code)
        return code

    # --- its life --------------------------------------------------------------------------------------------------------

    async def _live(self, stack: AsyncExitStack) -> int:
        """Go through life; what it takes hold of is given back by the stack."""
        _check_access_log(self._options.access_log)
        admin = await self._start_server(stack, "admin", self._options.admin)
        if self._options.health is not None:
            await self._start_server(stack, "health", self._options.health)
        stack.push_async_callback(self._resolver.close)
        stack.callback(self._reports.close)
        self._open = await open_source(self._options)
        stack.push_async_callback(self._open.close)
        stack.push_async_callback(self._supervisor.kill)
        self._supervisor.start()
        following = asyncio.create_task(self._follow(self._open.source))
        stack.push_async_callback(_end, following)
        stack.push_async_callback(_end, asyncio.create_task(self._look_at_watches()))
        await self._serve(admin, following)
        return await self._drain()

    async def _start_server(
        self, stack: AsyncExitStack, what: Literal["admin", "health"], address: tuple[str, int]
    ) -> AdminServer:
        try:
            sock = open_admin_socket(*address)
        except AddressError as error:
            raise StartError(f"{what} server: {error}") from error
        server = AdminServer(self._view, sock, pages=ALL_PAGES if what == "admin" else HEALTH_PAGES)
        stack.push_async_callback(server.close)
        await server.start()
        return server

    async def _serve(self, admin: AdminServer, following: asyncio.Task[None]) -> None:
        """Wait for the end; say on the way that traffic is served.

        Raises:
            StartError: an address of the first configuration cannot be listened on.
        """
        started = asyncio.create_task(self._supervisor.wait_started())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((started, stop, following), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                await following  # it never returns, so that it has failed
            if not started.done():
                return
            if errors := started.result():
                raise StartError("; ".join(f"{bind}: {reason}" for bind, reason in sorted(errors.items())))
            self._say_ready(admin)
            await stop
        finally:
            started.cancel()
            stop.cancel()

    def _say_ready(self, admin: AdminServer) -> None:
        listeners = self._supervisor.listeners()
        if not listeners and self._options.directory is not None:
            self._log.warning("nothing to listen on", hint="no Service has a loopback address as its clusterIP")
        self._log.info("ready", admin=admin.url, workers=self._options.workers, listeners=len(listeners))

    async def _drain(self) -> int:
        """Let the workers finish; return the exit code."""
        self._log.info("draining", signal=signal.Signals(self._signal).name)
        is_in_use = self._supervisor.is_ready and self._signal == signal.SIGTERM
        drained = asyncio.create_task(self._supervisor.drain(self._settings.drain_accept_s if is_in_use else 0.0))
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

    def _on_hangup(self) -> None:
        if not self._supervisor.recycle("SIGHUP"):
            self._log.warning("SIGHUP has no effect", hint="workers are replaced while the gateway serves; send it again then")

    # --- configuration ---------------------------------------------------------------------------------------------------

    async def _follow(self, source: Source) -> None:
        """Take everything the source has, then what changes, until the gateway has stopped: a draining one needs it, too."""
        self._take(await source.first())
        while True:
            try:
                async for changes in source.changes():
                    self._take(changes)
            except Exception:
                self._log.exception("watching failed, and begins anew", source=source.name)
            await asyncio.sleep(RETRY_WATCH_S)

    async def _look_at_watches(self) -> None:
        while True:
            self._watch_log.look(self._watches())
            await asyncio.sleep(LOOK_EVERY_S)

    def _watches(self) -> Sequence[WatchState]:
        return self._open.watches() if self._open is not None else ()

    def _take(self, changes: ObjectChanges) -> None:
        self._pipeline.apply(changes)
        self._reports.say_problems(self._pipeline.problems)
        self._reports.diagnose_soon(is_routine={key.kind for key in (*changes.put, *changes.removed)} <= _ROUTINE_KINDS)

    def _take_addresses(self, addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...]) -> None:
        self._pipeline.take_addresses(addresses, problems)
        self._reports.say_problems(self._pipeline.problems)

    def _publish(self, specs: Specs, change: SpecsDiff) -> None:
        self._view.changed_at = time.time()
        self._supervisor.publish(specs, change)
        if change.version > 1 and not _is_routine(change):
            self._log.info("configuration changed", version=change.version)


def _check_access_log(name: str) -> None:
    """Find out before anything is started; workers that cannot open it later go without.

    Raises:
        StartError: it cannot be opened.
    """
    if name == "off":
        return
    try:
        check_sink(name)
    except OSError as error:
        raise StartError(f"access log {name} cannot be opened: {error.strerror}") from error


def _is_routine(change: SpecsDiff) -> bool:
    """Whether only such things changed as change all the time in a cluster."""
    put = {section for section in Specs.__struct_fields__ if getattr(change.put, section)}
    return put | change.removed.keys() <= _ROUTINE_SECTIONS


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
