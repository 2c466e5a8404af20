# SPDX-License-Identifier: Apache-2.0
"""The controller's composition root: puts its parts together and sees it through its life.

Life: connect, listen for health checks, start the watches and the probes of gateways, and once all of that is known take part in
the election. The leader works; the others know as much, and so take over without a pause for learning. SIGTERM gives the Lease
back and leaves everything in the cluster as it is: gateways carry on without a controller.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import uvloop

from acmgproxy.controller.events import EventWriter
from acmgproxy.controller.gateways import FailOpen
from acmgproxy.controller.health import serve_health
from acmgproxy.controller.leader import Elector
from acmgproxy.controller.metrics import Metrics
from acmgproxy.controller.objects import EndpointSlice, Namespace, Node, Pod, Service, VirtualService, decoder
from acmgproxy.controller.ports import PortAllocator
from acmgproxy.controller.probes import Prober
from acmgproxy.controller.queue import WorkQueue
from acmgproxy.controller.rate import RateLimit
from acmgproxy.controller.reconcile import Reconciler
from acmgproxy.controller.store import Store
from acmgproxy.controller.view import gateway_ports_of
from acmgproxy.controller.writer import Writer
from acmgproxy.log import configure_log
from acmgproxy.sockets import AddressError, open_admin_socket
from discovery.kube import (
    ENDPOINT_SLICES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    VIRTUAL_SERVICES,
    ApiKind,
    ConfigError,
    KubeClient,
    WatchChange,
    Watched,
    WatchStatus,
)
from routing.capture import CAPTURED_KEY, STATUS_ANNOTATION

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.objects import Stored
    from acmgproxy.controller.options import ControllerOptions

__all__ = ["Controller", "run_controller"]

GATEWAY_LABELS = "app.kubernetes.io/name=acmgproxy,app.kubernetes.io/component=gateway"
NODE_LABELS = "acmg.io/gateway=true"

USER_AGENT = "acmg-controller"

Key = tuple[str, str]


def run_controller(options: ControllerOptions) -> int:
    """Run a controller until it is told to stop; return the exit code."""
    return uvloop.run(_run(options, configure_log()))


async def _run(options: ControllerOptions, log: FilteringBoundLogger) -> int:
    try:
        client = await KubeClient.connect(kubeconfig=options.kubeconfig, context=options.context, user_agent=USER_AGENT)
        sock = open_admin_socket(*options.health)
    except (AddressError, ConfigError) as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400 - for people, who have no use for a traceback
        return 1
    controller = Controller(client, options, log, sock=sock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    try:
        await controller.run()
    finally:
        await client.close()
    log.info("stopped", exit_code=0)
    return 0


class Controller:
    """One replica, all of it.

    Args:
        client: of the API server.
        options: see ControllerOptions.
        log: the controller's log.
        sock: of the health server, None for none.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        options: ControllerOptions,
        log: FilteringBoundLogger,
        *,
        sock: socket.socket | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        timing = options.timing
        self._options = options
        self._log = log
        self._clock = clock
        self._sock = sock
        self._store = Store()
        self._queue = WorkQueue()
        self._metrics = Metrics()
        self._prober = Prober(
            clock=clock,
            on_change=self._gateways_changed,
            on_tick=self._tick,
            port=options.gateway_health_port,
            interval_s=timing.probe_interval_s,
            timeout_s=timing.probe_timeout_s,
        )
        self._allocator = PortAllocator(clock, self._prober.is_busy)
        self._fail_open = self._make_fail_open(is_open=False)
        self._events = EventWriter(client, options.identity, clock=clock, failed=self._metrics.lost_event)
        self._elector = Elector(
            client,
            namespace=options.namespace,
            identity=options.identity,
            clock=clock,
            on_change=self._leadership_changed,
            lease_s=timing.lease_s,
            renew_deadline_s=timing.renew_deadline_s,
            retry_s=timing.retry_s,
        )
        rate = RateLimit(clock, per_s=timing.writes_per_s, burst=timing.writes_burst)
        self._writer = Writer(
            client,
            self._store,
            rate,
            clock=clock,
            may_write=lambda: self._elector.is_leader,
            wrote=self._metrics.wrote,
        )
        self._reconciler = Reconciler(
            store=self._store,
            queue=self._queue,
            writer=self._writer,
            allocator=self._allocator,
            cluster=self,
            events=self._events,
            metrics=self._metrics,
            log=log,
            clock=clock,
            system_namespace=options.namespace,
            linger_s=timing.linger_s,
        )
        self._watches = self._make_watches(client)
        self._progress = asyncio.Event()
        self._stop = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self._is_started = False

    def __repr__(self) -> str:
        return f"<Controller {self._options.identity} {self._elector!r} {self._reconciler!r}>"

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """See Cluster."""
        return self._prober.gateways

    @property
    def fails_open(self) -> bool:
        """See Cluster."""
        return self._fail_open.is_open

    @property
    def is_leader(self) -> bool:
        """Whether this replica writes."""
        return self._elector.is_leader

    @property
    def is_idle(self) -> bool:
        """Whether no Service has to be looked at."""
        return self._queue.is_idle

    @property
    def is_ready(self) -> bool:
        """Whether it knows the cluster."""
        return all(watch.synced for watch in self._watches)

    def stop(self) -> None:
        """Make `run` end in order."""
        self._stop.set()

    async def run(self) -> None:
        """Run until told to stop. Cancelled, it ends at once and keeps the Lease, as if it had been killed."""
        runner = await serve_health(self, self._sock) if self._sock is not None else None
        tasks = [asyncio.create_task(watch.run()) for watch in self._watches]
        tasks += [asyncio.create_task(self._prober.run()), asyncio.create_task(self._events.run())]
        leading = asyncio.create_task(self._lead())
        tasks.append(leading)
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait((*tasks, stop), return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()  # none of them ends but by a defect, and then it is better to start anew
            await self._halt()
            await _cancelled((leading,))
            await self._elector.release()
        finally:
            await self._halt()
            await _cancelled((*tasks, stop))
            self._queue.clear()
            if runner is not None:
                await runner.cleanup()

    @property
    def _services(self) -> Iterable[Service]:
        return self._store.services.values()

    # --- what the watches say ------------------------------------------------------------------------------------------------

    def _make_watches(self, client: KubeClient) -> tuple[Watched[Any], ...]:
        return (
            self._watched(client, NAMESPACES, Namespace, self._take_namespaces),
            self._watched(client, SERVICES, Service, self._take_services),
            self._watched(client, ENDPOINT_SLICES, EndpointSlice, lambda change: self._look(self._store.take_slices(change))),
            self._watched(
                client, VIRTUAL_SERVICES, VirtualService, lambda change: self._look(self._store.take_virtual_services(change))
            ),
            self._watched(client, NODES, Node, self._prober.take_nodes, label_selector=NODE_LABELS),
            self._watched(
                client,
                PODS,
                Pod,
                self._prober.take_pods,
                namespace=self._options.namespace,
                label_selector=GATEWAY_LABELS,
            ),
        )

    def _watched(
        self,
        client: KubeClient,
        kind: ApiKind,
        type_: type[Stored],
        take: Callable[[Any], None],
        *,
        namespace: str = "",
        label_selector: str = "",
    ) -> Watched[Any]:
        def on_change(change: WatchChange[Any]) -> None:
            for problem in change.problems:
                self._log.debug("cannot be read", kind=kind.kind, object=problem.name, reason=problem.reason)
            take(change)
            self._progress.set()

        return Watched(
            client,
            kind,
            decoder(type_),
            namespace=namespace,
            label_selector=label_selector,
            on_change=on_change,
            clock=self._clock,
        )

    def _take_namespaces(self, change: WatchChange[Namespace]) -> None:
        touched = self._store.take_namespaces(change)
        if ("", self._options.namespace) in change.put:  # its label switches capture on and off everywhere
            touched |= self._store.services.keys()
        self._look(touched)

    def _take_services(self, change: WatchChange[Service]) -> None:
        before = {key: self._store.services[key] for key in change.removed | change.put.keys() if key in self._store.services}
        touched = self._store.take_services(change)
        for key, service in before.items():
            if service.is_shadow and key not in change.put:
                self._allocator.unclaim((key[0], service.shadow_of))
        for key, service in change.put.items():
            if service.is_shadow:
                owner = (key[0], service.shadow_of)
                touched |= self._allocator.claim(owner, gateway_ports_of(service), service.meta.age)
        self._look(touched)

    def _look(self, keys: Iterable[Key]) -> None:
        if self._working is not None:
            self._queue.add(keys)

    # --- what the gateways say -----------------------------------------------------------------------------------------------

    def _gateways_changed(self, services: frozenset[str] | None) -> None:
        self._progress.set()
        if services is None:
            self._tick()
            self._look(self._reconciler.concerned())
        else:
            self._look((namespace, name) for namespace, _, name in (one.partition("/") for one in services))

    def _tick(self) -> None:
        """See whether capture has to fail open, or need not any more."""
        if not self._is_started:
            return
        any_ready = any(gateway.is_ready for gateway in self._prober.gateways)
        if not any_ready and not self.fails_open and not any(CAPTURED_KEY in one.selector for one in self._services):
            return  # nothing depends on gateways yet: to wait until they have been ready for long would help nobody
        if not self._fail_open.update(self._clock(), self._prober.last_ready, any_ready=any_ready):
            return
        if self._fail_open.is_open:
            self._log.error("no gateway is ready, so traffic goes direct", gateways=len(self._prober.gateways))
        else:
            self._log.info("gateways are ready again, and Services are captured anew")
        if self._working is not None:
            self._queue.add(self._reconciler.concerned(), urgent=True)

    def _make_fail_open(self, *, is_open: bool) -> FailOpen:
        timing = self._options.timing
        return FailOpen(self._clock(), after_s=timing.fail_open_after_s, back_after_s=timing.recapture_after_s, is_open=is_open)

    # --- who leads -------------------------------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Take part in the election once everything is known."""
        while not (self.is_ready and self._prober.is_settled):
            self._progress.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._progress.wait(), self._options.timing.probe_interval_s)
        # What an earlier leader has opened stays open until gateways have been ready for long enough.
        self._fail_open = self._make_fail_open(is_open=any(map(_is_direct, self._services)))
        self._is_started = True
        self._tick()
        self._log.info("ready", namespace=self._options.namespace, services=len(self._store.services))
        await self._elector.run()

    def _leadership_changed(self, leads: bool) -> None:
        self._log.info("leading" if leads else "following", identity=self._options.identity)
        if self._working is not None:
            self._working.cancel()
            self._working = None
            self._queue.clear()
        if leads:
            self._working = asyncio.create_task(self._reconciler.run())
            keys = self._store.services.keys()
            captured = [key for key in keys if CAPTURED_KEY in self._store.services[key].selector]
            self._queue.add(captured, urgent=True)
            self._queue.add(keys)

    async def _halt(self) -> None:
        """Stop to write; what is under way is given up, which is as good as never begun."""
        if self._working is not None:
            working, self._working = self._working, None
            await _cancelled((working,))

    # --- what is shown --------------------------------------------------------------------------------------------------------

    def not_ready_because(self) -> str:
        """See HealthView."""
        missing = [watch.status().kind for watch in self._watches if not watch.synced]
        return f"{', '.join(missing)} not read yet" if missing else ""

    def metrics(self) -> tuple[bytes, str]:
        """See HealthView."""
        return self._metrics.render(
            is_leader=self.is_leader,
            phases=self._reconciler.phases() if self.is_leader else {},
            gateways=self.gateways,
            fails_open=self.fails_open,
            queued=len(self._queue),
            watches=self.watches(),
        )

    def watches(self) -> tuple[WatchStatus, ...]:
        """Return how the watches are doing."""
        return tuple(watch.status() for watch in self._watches)


def _is_direct(service: Service) -> bool:
    """Tell whether a Service had been captured when capture failed open."""
    return service.meta.annotations.get(STATUS_ANNOTATION, "").startswith("direct:") and CAPTURED_KEY not in service.selector


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
