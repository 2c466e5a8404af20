# SPDX-License-Identifier: Apache-2.0
"""The demo's client: a steady stream of real requests, and what came back.

A request belongs to the phase that was current when it was sent; between phases (`phase` is None) it counts towards the totals
only, so that a phase's split is not blurred by requests that were routed by the weights before.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CONNECTIONS", "PhaseCount", "Tally", "Traffic", "percentile"]

CONNECTIONS = 3
"""Requests in flight at most. Retries are limited to 20 % of the requests in flight, but three are always allowed: with three
connections the budget can never be what makes a request fail, and the demo does not depend on luck."""

RATE_PER_S = 400.0
"""Requests a second, less where the machine cannot. Well below saturation, so that p50 and p99 tell latency and not queueing."""

_REQUEST_TIMEOUT_S = 15.0
_RECENT = 1000
_FAILURES_KEPT = 5


@dataclass(slots=True)
class PhaseCount:
    """What one phase saw: its weights, and how many answers came from each version."""

    title: str
    weights: tuple[int, int]
    versions: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Answers of v1 and v2."""
        return self.versions["v1"], self.versions["v2"]

    @property
    def observed(self) -> tuple[float, float]:
        """Answers of v1 and v2 in percent."""
        first, second = self.counts
        total = first + second
        return (100 * first / total, 100 * second / total) if total else (0.0, 0.0)


class Tally:
    """Everything the client counted."""

    def __init__(self) -> None:
        self.requests = 0
        self.failed = 0
        self.failures: list[str] = []
        self.phases: list[PhaseCount] = []
        self.phase: PhaseCount | None = None
        self.latencies_ms = array("d")
        self.recent_ms: deque[float] = deque(maxlen=_RECENT)

    def begin_phase(self, title: str, weights: tuple[int, int]) -> PhaseCount:
        """Count what is sent from now on towards a new phase."""
        self.phase = PhaseCount(title, weights)
        self.phases.append(self.phase)
        return self.phase

    def end_phase(self) -> None:
        """Count what is sent from now on towards no phase."""
        self.phase = None

    def answered(self, phase: PhaseCount | None, version: str, latency_ms: float) -> None:
        """Count a good answer."""
        self.requests += 1
        self.latencies_ms.append(latency_ms)
        self.recent_ms.append(latency_ms)
        if phase is not None:
            phase.versions[version] += 1

    def failed_with(self, phase: PhaseCount | None, reason: str) -> None:
        """Count a request that failed."""
        self.requests += 1
        self.failed += 1
        if len(self.failures) < _FAILURES_KEPT:
            self.failures.append(reason)
        if phase is not None:
            phase.failed += 1


class Traffic:
    """The stream of requests, running as long as the block.

    Args:
        url: what to ask for.
        host: Host field, the name that a pod would have used.
        tally: where to count.
    """

    def __init__(self, url: str, *, host: str, tally: Tally) -> None:
        self._url = url
        self._headers = {"Host": host}
        self._tally = tally
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S),
        )
        self._tasks = [asyncio.create_task(self._stream(number)) for number in range(CONNECTIONS)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        # A request in flight is waited for: it counts like any other.
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        if kind is None:
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _stream(self, number: int) -> None:
        """Send one request after the other, each at its time; when late, at once and without catching up."""
        interval_s = CONNECTIONS / RATE_PER_S
        due = perf_counter() + interval_s * number / CONNECTIONS
        while not self._stopping:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            await self._request()
            due = max(due + interval_s, perf_counter())

    async def _request(self) -> None:
        phase = self._tally.phase
        start = perf_counter()
        try:
            async with self._session.get(self._url) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._tally.failed_with(phase, repr(error))
            return
        latency_ms = 1000 * (perf_counter() - start)
        version = text.removeprefix("Hello version: ").partition(",")[0]
        if response.status == 200 and version in {"v1", "v2"}:
            self._tally.answered(phase, version, latency_ms)
        else:
            self._tally.failed_with(phase, f"{response.status} {text[:100]!r}")


def percentile(values: array[float] | deque[float], percent: float) -> float:
    """Return the value that `percent` of `values` do not exceed, 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
