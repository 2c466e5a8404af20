# SPDX-License-Identifier: Apache-2.0
"""Load that no request of which may fail: clients on an event loop in a thread of their own, cheap enough for thousands a second.

Some keep their connection until an answer ends it, some open one for each request. Everything but an answer with an expected
status is a failure: another status, a connection that is refused or ends where an answer should be, and silence.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import uvloop

from tests.interop.gateway import wait_for

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.interop.upstream import Address

__all__ = ["Answered", "Load", "percentile"]

_SILENCE_S = 30.0
_JOIN_S = 60.0
_KEPT = 20
"""Failures that are told in full; the rest is counted."""


class Answered(NamedTuple):
    """An answer: when its request went out (monotonic seconds), how long it took, and what it was."""

    sent_at: float
    took_s: float
    status: int
    body: str


class Load:
    """Clients of some addresses.

    Args:
        address: where to ask.
        host: of the requests.
        path: of the requests.
        keepers: clients that keep their connection; newcomers: those that open one for each request.
        pause_s: of each client between two requests.
        expected: the statuses that are no failure.

    Attributes:
        answers: every answer, in the order they came.
        failures: the first failures; `failed` counts them all.
    """

    def __init__(
        self,
        address: Address,
        *,
        host: str = "x",
        path: str = "/",
        keepers: int = 12,
        newcomers: int = 4,
        pause_s: float = 0.0,
        expected: Collection[int] = (200,),
    ) -> None:
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        self.failed = 0
        self.expected = frozenset(expected)
        self._address = address
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._kinds = [True] * keepers + [False] * newcomers
        self._pause_s = pause_s
        self._stopping = False
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()), name="load", daemon=True)

    def __repr__(self) -> str:
        return f"<Load on {self._address[0]}:{self._address[1]}: {len(self.answers)} answers, {self.failed} failed>"

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait(len(self._kinds))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client have its answer and leave."""
        self._stopping = True
        self._thread.join(_JOIN_S)
        assert not self._thread.is_alive(), "clients that never had an answer"

    def wait(self, more: int, *, timeout_s: float = 60.0) -> None:
        """Wait for so many answers more."""
        enough = len(self.answers) + more
        wait_for(lambda: len(self.answers) >= enough or self.failed > _KEPT, f"{more} answers more", timeout_s=timeout_s)

    def wait_for_total(self, total: int) -> None:
        """Wait until there have been so many answers in all."""
        self.wait(max(0, total - len(self.answers)))

    def since(self, moment: float) -> list[Answered]:
        """Return the answers to requests that went out at that moment or later."""
        backwards = itertools.takewhile(lambda one: one.sent_at + one.took_s >= moment, reversed(self.answers))
        return [one for one in backwards if one.sent_at >= moment]

    def bodies(self, moment: float = 0.0) -> Counter[str]:
        """Count the bodies of answers to requests that went out since a moment."""
        return Counter(one.body for one in (self.since(moment) if moment else self.answers))

    def check(self, at_least: int = 0) -> None:
        """Nothing failed, and there was enough that could have."""
        assert not self.failed, f"{self.failed} of {self.failed + len(self.answers)} failed: {self.failures}"
        assert len(self.answers) >= at_least

    def fail(self, reason: str) -> None:
        """Note a failure."""
        self.failed += 1
        if len(self.failures) < _KEPT:
            self.failures.append(reason)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for is_keeper in self._kinds:
                group.create_task(self._client(is_keeper))

    async def _client(self, is_keeper: bool) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            try:
                _, connection = await loop.create_connection(_Connection, *self._address)
            except OSError as error:
                self.fail(f"connecting: {error!r}")
                await asyncio.sleep(0.01)
                continue
            try:
                await self._use(connection, is_keeper)
            finally:
                connection.transport.abort()
                await connection.closed.wait()

    async def _use(self, connection: _Connection, is_keeper: bool) -> None:
        while not self._stopping and not connection.transport.is_closing():
            sent_at = monotonic()
            try:
                async with asyncio.timeout(_SILENCE_S):
                    status, body, is_last = await connection.ask(self._request)
            except (OSError, TimeoutError, ValueError) as error:
                self.fail(f"{error!r} after {monotonic() - sent_at:.3f} s, request {connection.asked} of its connection")
                return
            answered = Answered(sent_at, monotonic() - sent_at, status, body)
            self.answers.append(answered)
            if status not in self.expected:
                self.fail(f"{answered}")
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            if is_last or not is_keeper:
                return


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = asyncio.Event()
        self._data = b""
        self._answer: asyncio.Future[tuple[int, str, bool]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by their class

    async def ask(self, request: bytes) -> tuple[int, str, bool]:
        """Return status, body, and whether the connection ends with this answer."""
        self.asked += 1
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or self._answer is None or self._answer.done():
            return
        lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines[1:])
        if len(body) < int(fields["content-length"]):
            return
        self._data = b""
        self._answer.set_result((int(lines[0].split(" ")[1]), body.decode().strip(), fields.get("connection") == "close"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(f"the connection ended instead of an answer: {exc!r}"))


def percentile(answers: Sequence[Answered], percent: float) -> float:
    """Return how long it took at most, in seconds, for so many percent of the answers."""
    took = sorted(one.took_s for one in answers)
    return took[min(len(took) - 1, int(len(took) * percent / 100))]
