# SPDX-License-Identifier: Apache-2.0
"""When a worker that died is started again: at once, but a crash loop slows down.

The first death after a good while costs no waiting. Deaths in quick succession wait 0.5 s, 1 s, 2 s ... up to 30 s, because
starting Python over and over takes the processor from the workers that live.
"""

from __future__ import annotations

__all__ = ["RestartBackoff"]

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
RESET_AFTER_S = 10.0
"""A worker that lived this long did not die of its start."""


class RestartBackoff:
    """Counts deaths in quick succession."""

    __slots__ = ("_quick_deaths",)

    def __init__(self) -> None:
        self._quick_deaths = 0

    def __repr__(self) -> str:
        return f"<RestartBackoff quick_deaths={self._quick_deaths}>"

    def delay_s(self, lived_s: float) -> float:
        """Say how long to wait after a death, given how long the worker had lived."""
        if lived_s >= RESET_AFTER_S:
            self._quick_deaths = 0
        self._quick_deaths += 1
        if self._quick_deaths == 1:
            return 0.0
        return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._quick_deaths - 2, 16))
