# SPDX-License-Identifier: Apache-2.0
"""Backoff: how long to wait before an API server is asked again, and the figures of a watch. Pure: time and chance come in.

As client-go's reflectors do it: 0.8 s, doubled up to 30 s, each stretched at random up to twofold so that clients do not come in
step, and from the start again after two minutes without failure. Against a server that fails at once this makes 7 requests in
the first minute and fewer than two a minute from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff", "WatchLimits"]


class WatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a watch. Times are in seconds.

    Args:
        backoff_first_s, backoff_last_s: first and longest wait, before chance (client-go).
        backoff_reset_s: after this long without failure waits begin small again (client-go).
        retry_after_s: longest wait that a server may ask for; its own word is 1 s.
        stretch: a wait is made longer by up to this share of it, at random (client-go).
        absent_s: how often to look whether a kind that the server does not have has come.
        lived_s: a stream that lasted this long was none that the server refuses: asked for again at once.
        silence_s: longest time without a byte; bookmarks come every minute, two may be missed.
        sync_silence_s: the same while a stream is still telling what there is; nothing is awaited then but the server.
        timeout_s: range from which the server's time limit of a stream is drawn (client-go).
        answer_s: for a request to be answered; the server itself gives up after 60 s.
        page: objects of a list at once (kubectl, client-go).
        line_bytes: longest event. etcd takes 1.5 MiB for an object; JSON of the same is less than four times as large.
        slice_s: the event loop is given way after decoding for this long.
    """

    backoff_first_s: float = 0.8
    backoff_last_s: float = 30.0
    backoff_reset_s: float = 120.0
    retry_after_s: float = 120.0
    stretch: float = 1.0
    absent_s: float = 30.0
    lived_s: float = 60.0
    silence_s: float = 150.0
    sync_silence_s: float = 30.0
    timeout_s: tuple[float, float] = (300.0, 600.0)
    answer_s: float = 60.0
    page: int = 500
    line_bytes: int = 16 * 1024 * 1024
    slice_s: float = 0.005


class Backoff:
    """Waits that grow.

    Args:
        limits: the figures.
        draw: a random number in [0, 1).
    """

    __slots__ = ("_draw", "_limits", "_next_s", "_until")

    def __init__(self, limits: WatchLimits, draw: Callable[[], float]) -> None:
        self._limits = limits
        self._draw = draw
        self._next_s = limits.backoff_first_s
        self._until = 0.0

    def __repr__(self) -> str:
        return f"<Backoff next={self._next_s:g}s>"

    def wait_s(self, now: float, asked_s: float | None = None) -> float:
        """Return how long to wait after a failure at `now`.

        Args:
            now: monotonic seconds.
            asked_s: how long the server asks to wait, None if it does not.
        """
        limits = self._limits
        if now - self._until >= limits.backoff_reset_s:
            self._next_s = limits.backoff_first_s
        wait = self.stretched_s(self._next_s)
        if asked_s is not None:
            wait = max(wait, self.stretched_s(min(asked_s, limits.retry_after_s)))
        self._next_s = min(2 * self._next_s, limits.backoff_last_s)
        self._until = now + wait
        return wait

    def soon_s(self) -> float:
        """Return how long to wait for something that need not wait for its turn, without any effect on the waits to come."""
        return self.stretched_s(self._limits.backoff_first_s)

    def stretched_s(self, seconds: float) -> float:
        """Make a wait longer at random, so that clients do not come in step."""
        return seconds * (1 + self._limits.stretch * self._draw())
