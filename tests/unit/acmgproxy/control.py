# SPDX-License-Identifier: Apache-2.0
"""What the tests of the control side share: waiting, a log that remembers, a data plane that only notes what it is told."""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acmgproxy.endpoint_state import EndpointState
from acmgproxy.stats import Distribution, SeriesKey, SeriesValue, WorkerStats
from routing.specs import ListenerSpec, Specs, SpecsDiff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from acmgproxy.access_log import AccessLogOptions
    from acmgproxy.black_box import Recorder

__all__ = ["FakeDataPlane", "FakeWatch", "MemoryLog", "free_address", "listener", "specs_with", "wait_for"]

DEADLINE_S = 20.0


async def wait_for(condition: Callable[[], object], what: str = "condition") -> None:
    """Let the loop run until `condition()` is true."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {DEADLINE_S} s") from None


def free_address() -> tuple[str, int]:
    """Return a loopback address of its own and a port that is free there."""
    host = f"127.{secrets.randbelow(190) + 64}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def listener(name: str, *binds: tuple[str, int]) -> ListenerSpec:
    return ListenerSpec(name=name, port=80, binds=binds)


def specs_with(*listeners: ListenerSpec) -> Specs:
    return Specs(listeners={one.name: one for one in listeners})


@dataclass(frozen=True)
class FakeWatch:
    """How a watch on Kubernetes is doing."""

    kind: str
    synced: bool = False
    absent: bool = False
    objects: int = 0
    stale_s: float = 0.0
    relists: int = 0
    errors: int = 0
    last_error: str = ""


class MemoryLog:
    """Keeps (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]


class FakeDataPlane:
    """Notes its orders; fails where it is told to."""

    def __init__(self, worker_id: int = 0) -> None:
        self.worker_id = worker_id
        self.orders: list[str] = []
        self.refuse: set[int] = set()
        self.sockets: dict[str, socket.socket] = {}
        self.drains = 0
        self.is_leaving = False
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.fades: list[float] = []
        self.may_fade = asyncio.Event()
        self.may_fade.set()
        self.recorder: Recorder | None = None
        self.quarantine: Collection[bytes] = ()
        self.running = False
        self.worst_lag_s = 0.0

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def apply(self, diff: SpecsDiff) -> None:
        if diff.version in self.refuse:
            raise ValueError("nonsense")
        self.orders.append(f"apply {diff.version}")

    def endpoints(self, clusters: Sequence[str]) -> list[EndpointState]:
        return [EndpointState(cluster, "10.0.0.1", 80, active=2) for cluster in clusters]

    def take_notes(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def set_quarantine(self, heads: Collection[bytes]) -> None:
        self.quarantine = heads

    def set_logging(self, access_log: AccessLogOptions, level: str) -> None:
        if access_log.sink == "/bad":
            raise OSError(13, "Permission denied")
        self.orders.append(f"log {access_log.sink} {level}")

    async def add_listener(self, name: str, sock: socket.socket, member: int | None = None) -> None:
        if name == "bad":
            raise KeyError(name)
        name = name if member is None else f"{name}@{member}"
        self.sockets[name] = sock
        self.orders.append(f"add {name}")

    def remove_listener(self, name: str, address: str, port: int, member: int | None = None) -> None:
        name = name if member is None else f"{name}@{member}"
        self.sockets.pop(name).close()
        self.orders.append(f"remove {name} {address} {port}")

    def begin_drain(self) -> None:
        self.is_leaving = True

    async def fade(self, timeout_s: float) -> None:
        self.fades.append(timeout_s)
        await self.may_fade.wait()

    async def drain(self, timeout_s: float | None = None) -> None:
        self.drains += 1
        await self.may_finish.wait()

    def report(self) -> Iterator[list[SeriesValue] | WorkerStats]:
        key = SeriesKey("", "", "web.default.svc", "web", "default", "c", 200, "-")
        yield [SeriesValue(key, 5, Distribution.empty(), Distribution.empty(), Distribution.empty())]
        yield []
        yield WorkerStats(self.worker_id, [], {"requests": 5.0}, {"connections": 1.0})
