# SPDX-License-Identifier: Apache-2.0
"""Clients that behave as HTTP asks for and count every request that fails: none may while a gateway is taken out of service."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from tests.interop.client import RawClient
from tests.interop.gateway import wait_for

if TYPE_CHECKING:
    from tests.interop.upstream import Address, Exchange

__all__ = ["Crowd", "Tunnel", "Tunnels", "echo"]

_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_TIMEOUT_S = 30.0
_LONG_S = 120.0
"""For ten thousand answers where the processor has other things to do as well."""

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
_MESSAGE = b"0123456789abcdef"
_MESSAGES = 20
"""Of a tunnel, before its client opens another."""
_PAUSES_S = (0.0, 0.0, 0.003, 0.05, 0.4)
"""Pauses of the clients that keep a connection: some are always in a request, some mostly idle."""

_NEWCOMERS = 4


class Crowd:
    """Clients that keep their connection until an answer ends it, and clients that open one for each request.

    Attributes:
        failures: what went wrong, if anything did.
        last: answers that ended their connection, and answers in all, since `leave_by`.
    """

    def __init__(self, address: Address) -> None:
        self.failures: list[str] = []
        self.closed = 0
        self.answered = [0] * (len(_PAUSES_S) + _NEWCOMERS)
        self._address = address
        self._leave_at = float("inf")
        self._stop = threading.Event()
        keepers = [(number, pause_s, True) for number, pause_s in enumerate(_PAUSES_S)]
        newcomers = [(len(_PAUSES_S) + number, 0.002, False) for number in range(_NEWCOMERS)]
        self._threads = [threading.Thread(target=self._run, args=options, daemon=True) for options in keepers + newcomers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_progress()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self.join()

    def wait_progress(self) -> None:
        """Wait until every client had another answer."""
        before = list(self.answered)
        wait_for(lambda: all(now > then for now, then in zip(self.answered, before, strict=True)), "every client served")

    def wait_answers(self, count: int) -> None:
        """Wait until so many requests more have been answered, or one has failed."""
        goal = sum(self.answered) + count
        wait_for(lambda: sum(self.answered) >= goal or self.failures, f"{count} answers", timeout_s=_LONG_S)

    def leave_by(self, seconds: float) -> None:
        """Open no connection any more in so many seconds; who has one keeps it until an answer ends it."""
        self._leave_at = time.monotonic() + seconds

    def join(self) -> None:
        """Wait until all have left."""
        for thread in self._threads:
            thread.join(_TIMEOUT_S)
            assert not thread.is_alive()

    def _run(self, number: int, pause_s: float, is_keeper: bool) -> None:
        while time.monotonic() < self._leave_at and not self._stop.is_set():
            try:
                self._connect_and_use(number, pause_s, is_keeper)
            except (AssertionError, OSError) as error:
                self.failures.append(f"{'keeper' if is_keeper else 'newcomer'} {number}: {error!r}")
                return

    def _connect_and_use(self, number: int, pause_s: float, is_keeper: bool) -> None:
        with RawClient(self._address) as client:
            self._use(client, number, pause_s, is_keeper)

    def _use(self, client: RawClient, number: int, pause_s: float, is_keeper: bool) -> None:
        while not self._stop.is_set():
            client.send(_REQUEST)
            answer = client.answer()
            assert answer.status == 200, answer
            self.answered[number] += 1
            is_over = answer.headers.get("connection") == "close"
            self.closed += is_over
            self._stop.wait(pause_s)
            if is_over or not is_keeper:
                return


def echo(exchange: Exchange) -> None:
    """Be a server that switches protocols and says back what it hears."""
    exchange.keep_alive = False
    exchange.send(SWITCH)
    while data := exchange.sock.recv(65536):
        exchange.send(data)


class Tunnel(RawClient):
    """A WebSocket, as far as a gateway knows it."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self.send(_UPGRADE)
        answer = self.head()
        assert answer.status == 101, answer

    def say(self) -> None:
        """Send a message and wait until it comes back."""
        self.send(_MESSAGE)
        heard = self._exactly(len(_MESSAGE))
        assert heard == _MESSAGE, heard


class Tunnels(Crowd):
    """The same with WebSockets, each with a few messages: `answered` counts those that came back."""

    def _connect_and_use(self, number: int, pause_s: float, is_keeper: bool) -> None:
        del is_keeper
        with Tunnel(self._address) as tunnel:
            for _ in range(_MESSAGES):
                tunnel.say()
                self.answered[number] += 1
                self._stop.wait(pause_s / _MESSAGES)
