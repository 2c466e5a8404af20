# SPDX-License-Identifier: Apache-2.0
"""RateLimit: how fast the controller writes at most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["WRITES_BURST", "WRITES_PER_S", "RateLimit"]

WRITES_PER_S = 100.0
WRITES_BURST = 200
"""Above what kube-controller-manager allows itself (20, burst 30): to release 5,000 Services must not take minutes, and the API
server's own fairness protects it from more than it can take."""


class RateLimit:
    """A bucket of tokens that fills steadily.

    Args:
        per_s: tokens a second.
        burst: how many it holds.
        clock: monotonic, in seconds.
        sleep: waits.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        per_s: float = WRITES_PER_S,
        burst: int = WRITES_BURST,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._per_s = per_s
        self._burst = burst
        self._sleep = sleep
        self._tokens = float(burst)
        self._at = clock()

    def __repr__(self) -> str:
        return f"<RateLimit {self._per_s}/s tokens={self._tokens:.1f}>"

    async def take(self) -> None:
        """Take a token, waiting for it if need be; those who wait are served in turn."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        self._tokens -= 1.0
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._per_s)
