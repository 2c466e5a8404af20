# SPDX-License-Identifier: Apache-2.0
"""Reconciler: looks at one Service after the other and carries out the plan that `steps` makes of what is there.

The shell around `steps`. It puts the view together, keeps the few things that only a running process can know (how long
something has been waiting, which gateway ports were in use a moment ago), writes, and comes back when something fails or a limit
runs out. All of that may be lost at any time: it only makes the next process wait anew.

Before a write that takes ways away, the Service is read from the API server itself and the plan made again from that: watches can
be seconds behind, and such a write is right only if what it relies on is still there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from acmgproxy.controller.eligibility import is_switched_off, judge
from acmgproxy.controller.events import announcement
from acmgproxy.controller.ports import PortsExhaustedError
from acmgproxy.controller.steps import next_writes, orphan_writes
from acmgproxy.controller.view import Plan, View, gateway_ports_of, is_shadow_of
from acmgproxy.controller.writer import NotLeadingError
from discovery.kube import ApiError
from routing.capture import CAPTURED_KEY, STATUS_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.controller.events import EventWriter
    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.metrics import Metrics
    from acmgproxy.controller.objects import Service
    from acmgproxy.controller.ports import PortAllocator
    from acmgproxy.controller.queue import WorkQueue
    from acmgproxy.controller.store import Beside, Store
    from acmgproxy.controller.view import Write
    from acmgproxy.controller.writer import Writer

__all__ = ["CONCURRENCY", "LINGER_S", "Cluster", "Reconciler"]

CONCURRENCY = 16
"""Services that are worked on at once: enough to use the rate of writes at 100 ms each."""

LINGER_S = 15.0
"""How long gateways go on listening for what no slice leads to any more. kube-proxy rewrites a node's rules within a second, in
clusters of thousands of Services within ten."""

LOOK_AGAIN_S = 10.0
"""A Service that waits for something is looked at this often, whatever the watches tell."""

Key = tuple[str, str]


class Cluster(Protocol):
    """What concerns all Services."""

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """The gateways."""

    @property
    def fails_open(self) -> bool:
        """Whether all traffic has to go direct."""


class Reconciler:
    """Keeps Services as they should be.

    Args:
        store: what the watches have shown.
        queue: which Services to look at.
        writer: writes.
        allocator: of gateway ports.
        cluster: what concerns all Services.
        events: for people.
        metrics: counters.
        log: the controller's log.
        clock: monotonic, in seconds.
        system_namespace: where the gateways are.
        linger_s: see LINGER_S.
    """

    def __init__(
        self,
        *,
        store: Store,
        queue: WorkQueue,
        writer: Writer,
        allocator: PortAllocator,
        cluster: Cluster,
        events: EventWriter,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
        system_namespace: str,
        linger_s: float = LINGER_S,
    ) -> None:
        self._store = store
        self._queue = queue
        self._writer = writer
        self._allocator = allocator
        self._cluster = cluster
        self._events = events
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._system_namespace = system_namespace
        self._linger_s = linger_s
        self._plans: dict[Key, tuple[str, str | None, float]] = {}
        self._asked_at: dict[Key, float] = {}
        self._listed_at: dict[Key, dict[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Reconciler {dict(self.phases())} {self._queue!r}>"

    def phases(self) -> Counter[str]:
        """Return how many Services are how far."""
        return Counter(phase for phase, _, _ in self._plans.values() if phase not in {"unasked", "frozen"})

    def concerned(self) -> Collection[Key]:
        """Return the Services that gateways matter to."""
        return [key for key, (phase, _, _) in self._plans.items() if phase not in {"unasked", "refused", "frozen"}]

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            succeeded = False
            try:
                await self.reconcile(key)
                succeeded = True
            except NotLeadingError:
                pass  # whoever leads next looks at everything
            except ApiError as error:
                self._queue.add_failed(key, error.retry_after_s or 0.0)
                if error.status != 409:
                    self._log.warning("a write failed, and is tried again", service="/".join(key), reason=str(error))
            except Exception:
                self._queue.add_failed(key, 1.0)
                self._log.exception("a Service could not be dealt with", service="/".join(key))
            finally:
                self._queue.done(key, succeeded=succeeded)

    async def reconcile(self, key: Key) -> None:
        """Do what is to be done about a Service now.

        Raises:
            ApiError: A write failed; the others were tried as well.
            NotLeadingError: Another replica may lead by now.
        """
        if not self._writer.is_current(key):
            self._queue.add_later(key, 0.2)  # at the latest; the watch names it before
            return
        self._metrics.looked()
        beside = self._store.beside(key)
        if beside.service is None:
            await self._orphaned(key, beside)
            return
        if beside.service.is_shadow:
            self._orphan_owner(key, beside.service)
            return
        view = self._view(key, beside.service, beside)
        plan = self._plan(key, view)
        await self._carry_out(key, view, plan)
        self._settle(key, view, plan)

    # --- the view ----------------------------------------------------------------------------------------------------------

    def _view(self, key: Key, service: Service, beside: Beside) -> View:
        namespaces = self._store.namespaces
        namespace = namespaces.get(key[0])
        verdict = judge(
            service,
            namespace,
            is_named=self._store.is_named(key),
            system_namespace=self._system_namespace,
            is_off=is_switched_off(namespaces.get(self._system_namespace)),
        )
        problem = ""
        if verdict.answer == "captured":
            try:
                self._allocator.allocate(key, verdict.ports)
            except PortsExhaustedError as error:
                problem = str(error)
        view = View(
            service=service,
            is_frozen=service.is_going or namespace is None or namespace.is_going,
            verdict=verdict,
            ports=self._allocator.given(key),
            ports_problem=problem,
            shadow=beside.shadow,
            slices=beside.slices,
            shadow_slices=beside.shadow_slices,
            gateways=self._cluster.gateways,
            fails_open=self._cluster.fails_open,
            waited_s=self._clock() - self._plans[key][2] if key in self._plans else 0.0,
            linger_s=self._linger_s,
        )
        return replace(view, recent=self._recent(key, view))

    def _recent(self, key: Key, view: View) -> frozenset[int]:
        """Return the ports whose gateway ports were in gateway slices a moment ago, or may have been."""
        shadow = view.shadow
        known = gateway_ports_of(shadow) if shadow is not None and is_shadow_of(shadow, view.service) else {}
        if not known:
            self._listed_at.pop(key, None)
            return frozenset()
        listed = {port.port for one in view.slices for port in one.ports}
        before = self._listed_at.get(key, {})
        now = self._clock()
        self._listed_at[key] = {
            port: now if number in listed or port not in before else before[port] for port, number in known.items()
        }
        return frozenset(port for port, at in self._listed_at[key].items() if now - at < self._linger_s)

    def _plan(self, key: Key, view: View) -> Plan:
        plan = next_writes(view)
        before = self._plans.get(key)
        if before is None or before[:2] != (plan.phase, plan.status):
            if any(write.reason == "status" for write in plan.writes):
                plan = next_writes(replace(view, waited_s=0.0))  # a new text has to last before it is written
            self._note(key, view, plan)
        return plan

    def _note(self, key: Key, view: View, plan: Plan) -> None:
        """Note how far a Service is, and since when."""
        now = self._clock()
        if plan.phase == "unasked" and key not in self._plans:
            return
        self._plans[key] = plan.phase, plan.status, now
        if plan.phase == "captured":
            asked_at = self._asked_at.pop(key, None)
            if asked_at is not None and CAPTURED_KEY not in view.service.selector:
                self._metrics.captured(now - asked_at)
        elif plan.phase == "pending":
            self._asked_at.setdefault(key, now)
        else:
            self._asked_at.pop(key, None)

    # --- what comes of it -----------------------------------------------------------------------------------------------------

    async def _carry_out(self, key: Key, view: View, plan: Plan) -> None:
        failed: ApiError | None = None
        for write in plan.writes:
            try:
                await self._carry_out_one(key, view, write, plan)
            except ApiError as error:
                if "being terminated" in error.message:
                    continue  # the Namespace goes, and with it the Service
                failed = failed or error
        if failed is not None:
            raise failed

    async def _carry_out_one(self, key: Key, view: View, write: Write, plan: Plan) -> None:
        service = view.service
        if write.careful:
            beside = await self._writer.look(key)
            if beside.service is None:
                return
            service = beside.service
            again = next_writes(replace(self._view(key, service, beside), waited_s=view.waited_s))
            found = next((one for one in again.writes if one.what == write.what), None)
            if found is None:
                self._queue.add_later(key, 1.0)  # the watch was behind, and will tell
                return
            write, plan = found, again
        await self._writer.carry_out(key, write)
        self._log.debug("wrote", service="/".join(key), reason=write.reason, object=write.name)
        if write.reason in {"key-added", "key-removed"}:
            self._log.info("captured" if write.reason == "key-added" else "released", service="/".join(key), status=plan.status)
        if write.kind == "Service" and write.name == key[1] and _tells(write):
            said = announcement(service.meta.annotations.get(STATUS_ANNOTATION, ""), plan.status)
            if said is not None:
                self._events.say(service, said)

    def _settle(self, key: Key, view: View, plan: Plan) -> None:
        """Give back what is no longer needed, and come back when something runs out."""
        shadow = view.shadow
        known = gateway_ports_of(shadow) if shadow is not None and is_shadow_of(shadow, view.service) else {}
        in_use = {port.port for one in view.slices for port in one.ports}
        needed = {port for port, number in view.ports.items() if port in known or number in in_use}
        if view.verdict.answer == "captured":
            needed.update(view.verdict.ports)
        self._allocator.keep(key, needed)
        if plan.phase == "unasked" and not plan.writes and shadow is None:
            self._plans.pop(key, None)
        if plan.retry_s is not None:
            self._queue.add_later(key, plan.retry_s)
        elif plan.phase in {"pending", "releasing"}:
            self._queue.add_later(key, LOOK_AGAIN_S)
        if view.recent - set(view.verdict.ports):
            self._queue.add_later(key, self._linger_s)

    async def _orphaned(self, key: Key, beside: Beside) -> None:
        """Deal with what a Service left behind. Slices go with their owner; a shadow whose owner was edited out does not."""
        self._plans.pop(key, None)
        self._asked_at.pop(key, None)
        self._listed_at.pop(key, None)
        namespace = self._store.namespaces.get(key[0])
        if namespace is None or namespace.is_going:
            self._allocator.keep(key, ())
            return
        shadow = beside.shadow
        if shadow is None or not shadow.is_shadow or shadow.shadow_of != key[1]:
            self._allocator.keep(key, ())
            return
        for write in orphan_writes(shadow):
            await self._writer.carry_out(key, write)

    def _orphan_owner(self, key: Key, shadow: Service) -> None:
        """Look at the Service that a shadow belongs to, in case nobody else does: it may be gone."""
        self._plans.pop(key, None)
        if shadow.shadow_of and shadow.shadow_of != key[1]:
            self._queue.add([(key[0], shadow.shadow_of)])


def _tells(write: Write) -> bool:
    assert write.body is not None
    return "annotations" in write.body.get("metadata", {})
