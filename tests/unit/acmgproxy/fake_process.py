# SPDX-License-Identifier: Apache-2.0
"""Workers played by the test: what `WorkerProcess` is to a slot, without a process."""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

from acmgproxy.black_box import Recorder
from acmgproxy.channel import Channel, encode_frame
from acmgproxy.endpoint_state import EndpointState
from acmgproxy.messages import (
    AddListener,
    Applied,
    Apply,
    AskEndpoints,
    AskStats,
    Drain,
    EndpointsReply,
    ListenerAdded,
    ListenerRemoved,
    LoggingSet,
    Order,
    RemoveListener,
    SetLogging,
    Start,
    Started,
    StatsReply,
    order_decoder,
)
from acmgproxy.stats import WorkerStats
from tests.unit.acmgproxy.control import wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from acmgproxy.messages import Report

__all__ = ["FakeProcess", "FakeProcesses"]

_pids = itertools.count(100_001)


class FakeProcess:
    """Answers orders as a good worker does unless `is_obedient` is false; remembers them all."""

    def __init__(self, owner: FakeProcesses, sock: socket.socket, on_exit: Callable[[int], None]) -> None:
        self.pid = next(_pids)
        self.orders: list[Order] = []
        self.is_obedient = owner.are_obedient
        self.counted = 0.0
        self.is_alive = True
        self.dumps = 0
        self.recorder: Recorder | None = None
        self._on_exit = on_exit
        self.channel: Channel[Order] = Channel(
            asyncio.get_running_loop(), sock, order_decoder(), on_message=self._on_order, on_close=lambda: self.exit(1)
        )

    def kill(self) -> None:
        self.exit(-9)

    def dump(self) -> None:
        self.dumps += 1

    def exit(self, code: int) -> None:
        if self.is_alive:
            self.is_alive = False
            self.channel.close()
            asyncio.get_running_loop().call_soon(self._on_exit, code)

    def report(self, *reports: Report) -> None:
        for report in reports:
            self.channel.send(encode_frame(report))

    def versions(self) -> list[tuple[int, int]]:
        return [(order.base, order.diff.version) for order in self.orders if isinstance(order, Apply)]

    def listening(self) -> list[str]:
        """Names of listeners in the order they came (`+`) and went (`-`), with the owner of those of other workers."""
        return [
            ("+" if isinstance(order, AddListener) else "-") + order.name + ("" if order.member is None else f"@{order.member}")
            for order in self.orders
            if isinstance(order, AddListener | RemoveListener)
        ]

    def stats(self) -> WorkerStats:
        return WorkerStats(0, [], {"requests": self.counted}, {})

    async def ordered(self, kind: type[Any], count: int = 1) -> None:
        await wait_for(lambda: sum(isinstance(order, kind) for order in self.orders) >= count, f"{count} {kind}")

    def _on_order(self, order: Order, fds: list[int]) -> None:
        self.orders.append(order)
        for fd in fds:
            if isinstance(order, Start):
                self.recorder = Recorder(fd)
            os.close(fd)
        if self.is_obedient:
            self._obey(order)

    def _obey(self, order: Order) -> None:
        match order:
            case Start():
                self.report(Started())
            case Apply():
                self.report(Applied(order.diff.version))
            case AddListener():
                self.report(ListenerAdded(order.name, order.address, order.port, order.member))
            case RemoveListener():
                self.report(ListenerRemoved(order.name, order.address, order.port, order.member))
            case AskStats():
                self.report(StatsReply(order.ask, self.stats()))
            case AskEndpoints():
                self.report(
                    EndpointsReply(order.ask, [EndpointState(name, "10.0.0.1", 80) for name in order.clusters or ("ejected",)])
                )
            case SetLogging():
                self.report(LoggingSet(order.ask, ""))
            case Drain():
                self.report(StatsReply(0, self.stats()))
                self.exit(0)


class FakeProcesses:
    """Stands for the class WorkerProcess; remembers every process started."""

    def __init__(self) -> None:
        self.started: list[FakeProcess] = []
        self.are_obedient = True
        self.error: OSError | None = None

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        channel_end: socket.socket,
        *,
        on_exit: Callable[[int], None],
    ) -> FakeProcess:
        assert loop is asyncio.get_running_loop()
        assert command
        if self.error is not None:
            channel_end.close()
            raise self.error
        process = FakeProcess(self, channel_end, on_exit)
        self.started.append(process)
        return process
