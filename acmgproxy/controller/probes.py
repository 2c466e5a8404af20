# SPDX-License-Identifier: Apache-2.0
"""Prober: asks every gateway pod each second whether it is ready and what it listens on.

The shell around `gateways`, which decides what answers mean. A gateway answers `not modified` while its listeners are the same,
so asking costs next to nothing. Who is told of a change also learns which Services it concerns, because thousands of Services
look at the gateways.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from acmgproxy.controller.gateways import GatewayState, ListenerEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.objects import Node, Pod
    from discovery.kube import WatchChange

__all__ = ["PROBE_INTERVAL_S", "PROBE_TIMEOUT_S", "Prober"]

PROBE_INTERVAL_S = 1.0
PROBE_TIMEOUT_S = 1.0
"""Two missed probes make a gateway absent, so one that vanishes gets no new traffic after 2 to 4 s."""

HEALTH_PORT = 15021
ZONE_LABEL = "topology.kubernetes.io/zone"

_decode = msgspec.json.Decoder(list[ListenerEntry]).decode


class Prober:
    """Keeps what is known of the gateways.

    Args:
        clock: monotonic, in seconds.
        on_change: told which Services (`namespace/name`) a change concerns, None for all.
        on_tick: called about once an interval.
        port: of the gateways' health server.
        interval_s: between two probes of a gateway.
        timeout_s: of a probe.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        on_change: Callable[[frozenset[str] | None], None],
        on_tick: Callable[[], None],
        port: int = HEALTH_PORT,
        interval_s: float = PROBE_INTERVAL_S,
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._on_tick = on_tick
        self._port = port
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._states: dict[tuple[str, str], GatewayState] = {}
        self._snapshots: dict[tuple[str, str], Gateway] = {}
        self._zones: dict[str, str] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._last_ready: float | None = None

    def __repr__(self) -> str:
        return f"<Prober {sorted(self._states.values(), key=lambda one: one.pod.meta.name)}>"

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        """All gateways as they are now."""
        return tuple(self._snapshots.values())

    @property
    def is_settled(self) -> bool:
        """Whether every gateway has been asked."""
        return all(state.is_known for state in self._states.values())

    @property
    def last_ready(self) -> float | None:
        """When a gateway last said that it is ready, None if none has."""
        return self._last_ready

    def is_busy(self, gateway_port: int, key: tuple[str, str]) -> bool:
        """Tell whether a gateway listens on a port for another Service."""
        service = "/".join(key)
        return any(state.listens(gateway_port) - {service} for state in self._states.values())

    def take_pods(self, change: WatchChange[Pod]) -> None:
        """Take note of gateway pods."""
        for key in change.removed:
            self._states.pop(key, None)
            self._snapshots.pop(key, None)
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()
        for key, pod in change.put.items():
            known = self._states.get(key)
            if known is not None and known.pod.meta.uid == pod.meta.uid and known.pod.addresses == pod.addresses:
                known.pod = pod
            else:
                self._states[key] = GatewayState(pod, self._clock())
                self._start(key)
            self._snapshots[key] = self._snapshot(self._states[key])
        if change.put or change.removed:
            self._on_change(None)

    def take_nodes(self, change: WatchChange[Node]) -> None:
        """Take note of the zones of gateway nodes."""
        for key in change.removed:
            self._zones.pop(key[1], None)
        for key, node in change.put.items():
            self._zones[key[1]] = node.meta.labels.get(ZONE_LABEL, "")
        before = dict(self._snapshots)
        self._snapshots = {key: self._snapshot(state) for key, state in self._states.items()}
        if before != self._snapshots:
            self._on_change(None)

    async def run(self) -> None:
        """Probe until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            self._session = session
            for key in self._states:
                self._start(key)
            try:
                while True:
                    self._on_tick()
                    await asyncio.sleep(self._interval_s)
            finally:
                self._session = None
                for task in self._tasks.values():
                    task.cancel()
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                self._tasks.clear()

    def _start(self, key: tuple[str, str]) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
        if self._session is not None:
            self._tasks[key] = asyncio.create_task(self._follow(key, self._session))

    async def _follow(self, key: tuple[str, str], session: aiohttp.ClientSession) -> None:
        state = self._states[key]
        tag = ""
        while True:
            started = self._clock()
            tag = await self._probe(state, session, tag)
            self._compare(key, state)
            await asyncio.sleep(max(0.0, self._interval_s - (self._clock() - started)))

    async def _probe(self, state: GatewayState, session: aiohttp.ClientSession, tag: str) -> str:
        """Ask a gateway; return the tag of the listeners that are known now."""
        address = next(iter(state.pod.addresses.values()), "")
        if not address:
            state.missed("its pod has no address yet")
            return ""
        base = f"http://[{address}]:{self._port}" if ":" in address else f"http://{address}:{self._port}"
        try:
            async with session.get(f"{base}/ready") as answer:
                if answer.status != 200:
                    text = (await answer.text())[:200].strip()
                    state.answered(self._clock(), text or f"{base}/ready answers {answer.status}", None)
                    return ""
            async with session.get(f"{base}/listeners", headers={"If-None-Match": tag} if tag else {}) as answer:
                if answer.status == 304:
                    state.answered(self._clock(), "", None)
                    return tag
                answer.raise_for_status()
                state.answered(self._clock(), "", _decode(await answer.read()))
                return answer.headers.get("ETag", "")
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            state.missed(f"{base} cannot be asked: {str(error) or type(error).__name__}")
            return ""

    def _compare(self, key: tuple[str, str], state: GatewayState) -> None:
        """Tell what a probe changed."""
        if self._states.get(key) is not state:
            return
        before, now = self._snapshots.get(key), self._snapshot(state)
        if now.is_ready:
            self._last_ready = state.last_success
        if before == now:
            return
        self._snapshots[key] = now
        if before is None or before._replace(bound={}, errors={}) != now._replace(bound={}, errors={}):
            self._on_change(None)
            return
        changed = (before.bound.items() ^ now.bound.items()) | (before.errors.items() ^ now.errors.items())
        self._on_change(frozenset(listener.service for listener, _ in changed))

    def _snapshot(self, state: GatewayState) -> Gateway:
        state.zone = state.pod.meta.labels.get(ZONE_LABEL) or self._zones.get(state.pod.spec.node_name, "")
        return state.snapshot()
