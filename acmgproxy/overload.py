# SPDX-License-Identifier: Apache-2.0
"""How much of what a worker may use is used, and what is shed when it becomes too much.

A decision from injected readings, without clock or system call. Every resource has a pressure, used / limit, and each level of
overload gives up a little more, the cheapest first:

    pressure      0.92              0.95              0.98
    NORMAL ───────▶ NO_KEEP_ALIVE ──▶ NO_REQUESTS ─────▶ NO_CONNECTIONS
           ◀─ 0.88                ◀─ 0.92           ◀─ 0.95

0.92 and 0.95 are those of Envoy's sample of an edge configuration (disable_http_keepalive, stop_accepting_requests), where
stop_accepting_connections is at 0.95 too; here it comes last, because a client that is told 503 knows more than one that waits.
A level is left where the one below it begins, so that a pressure that swings around a threshold does not switch back and forth.
The worker's level is the highest of its resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENTER", "LEAVE", "Budget", "Level", "Overload", "accept_budget", "level_after"]

ENTER = (0.92, 0.95, 0.98)
"""Pressure at which each level above NORMAL begins."""

LEAVE = (0.88, 0.92, 0.95)
"""Pressure under which each is left."""

FOR_ENDPOINTS = 4096
"""Descriptors that are always enough for connections to endpoints: four times what Envoy allows to one cluster."""


class Level(IntEnum):
    """What is given up; each level includes those before it."""

    NORMAL = 0
    NO_KEEP_ALIVE = 1
    NO_REQUESTS = 2
    NO_CONNECTIONS = 3


MOST: Mapping[str, Level] = {"connections": Level.NO_KEEP_ALIVE}
"""How far a resource may go on its own. The number of connections is kept by not accepting more, which loses nobody's request;
all it asks of those that are open is not to stay without need."""


def level_after(present: Level, pressure: float) -> Level:
    """Return the level that follows `present` at this pressure."""
    level = int(present)
    while level < Level.NO_CONNECTIONS and pressure >= ENTER[level]:
        level += 1
    while level > Level.NORMAL and pressure < LEAVE[level - 1]:
        level -= 1
    return Level(level)


class Overload:
    """The level of each resource and of all together.

    Attributes:
        level: the worker's.
        pressures: the latest readings by resource.
    """

    def __init__(self) -> None:
        self.level = Level.NORMAL
        self.pressures: dict[str, float] = {}
        self._levels: dict[str, Level] = {}

    def __repr__(self) -> str:
        return f"Overload({self.level.name}, {', '.join(f'{name}={value:.2f}' for name, value in self.pressures.items())})"

    def update(self, pressures: Mapping[str, float]) -> Level:
        """Take readings of all resources; one that is not among them is not limited."""
        levels = {}
        for name, pressure in pressures.items():
            after = level_after(self._levels.get(name, Level.NORMAL), pressure)
            levels[name] = min(after, MOST.get(name, Level.NO_CONNECTIONS))
        self._levels = levels
        self.pressures = dict(pressures)
        self.level = max(levels.values(), default=Level.NORMAL)
        return self.level

    @property
    def tightest(self) -> str:
        """The resource whose pressure is highest, "" when none is limited."""
        return max(self.pressures, key=self.pressures.__getitem__, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many connections there may be.

    Args:
        limit: as far as is known now, 0 for any number.
        room: how many more may come before the next look.
    """

    limit: int
    room: int


def accept_budget(*, open_connections: int, max_connections: int, descriptors: int, max_descriptors: int) -> Budget:
    """Return how many client connections there may be.

    A client's request may need a second descriptor for its endpoint, so half of them are kept for endpoints (Envoy's advice for
    its global connection limit), or FOR_ENDPOINTS where that is enough; and of those that are left now, half go until the next
    look.

    Args:
        open_connections: of clients.
        max_connections: the setting, 0 for none.
        descriptors: in use.
        max_descriptors: that may be used, 0 when the system sets no limit.
    """
    limit = max_connections
    room = max_connections - open_connections
    if max_descriptors:
        most = max(1, max_descriptors - min(max_descriptors // 2, FOR_ENDPOINTS))
        limit = min(limit or most, most)
        room = min(limit - open_connections, (max_descriptors - descriptors) // 2)
    return Budget(limit=limit, room=max(0, room))
