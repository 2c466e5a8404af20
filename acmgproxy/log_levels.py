# SPDX-License-Identifier: Apache-2.0
"""Levels of the processes' logs, and what changes them while a process runs.

Apart from the loggers themselves, so that a worker, which has no structlog, can share it.
"""

from __future__ import annotations

import os
from typing import Literal, cast

__all__ = ["LEVELS", "LEVEL_VARIABLE", "Level", "Threshold", "initial_level"]

LEVEL_VARIABLE = "ACMG_LOG_LEVEL"
"""Environment variable with the level from which on lines are written; a word that is none means `info`."""

Level = Literal["debug", "info", "warning", "error"]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""As in the standard library."""


class Threshold:
    """The level from which on lines are written; may be set at any time."""

    __slots__ = ("level",)

    def __init__(self, level: Level | None = None) -> None:
        self.level: Level = initial_level() if level is None else level

    def __repr__(self) -> str:
        return f"Threshold({self.level!r})"

    def passes(self, level: str) -> bool:
        """Tell whether a line of this level is written; `exception` and `critical` are errors."""
        return LEVELS.get(level, LEVELS["error"]) >= LEVELS[self.level]


def initial_level() -> Level:
    """Return what LEVEL_VARIABLE says."""
    named = os.environ.get(LEVEL_VARIABLE, "").lower()
    return cast("Level", named) if named in LEVELS else "info"
