# SPDX-License-Identifier: Apache-2.0
"""The recent past of traffic, by Service: enough to say what happened between now and a moment of the last minutes.

Counts only rise. `observe` adds what a worker's newest report has more than the one before; `tick` closes a step (every few
seconds) and keeps a copy of what has changed in it. What happened since a step is the difference between now and its copy, and
everything shown is made of such differences: a rate is one divided by the time between, a quantile is one of buckets.

    steps  0 ───────────────── k ─ k ─ k ─ . . . ──── every one ──── now        all of the last minute, one in SPARSE before

A series that is new counts from zero. Prometheus counts it from its first scrape on, so what a new series counted before that is
missing there; from then on the two are equal.

Memory: a Service that had traffic lately holds at most about 25 copies of its counts and a point for each step, 15 kB; one that
had none is forgotten. At most MAX_SERVICES are told apart; the requests of others are in the sum over all.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.overview.quantile import quantile
from acmgproxy.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from acmgproxy.metrics.labels import Identities
    from acmgproxy.stats import SeriesKey, SeriesValue

__all__ = ["ALL", "HORIZON_S", "WINDOW_S", "Cell", "Counts", "Figures", "History", "Point", "Window"]

WINDOW_S = 60.0
"""What figures are about unless something else is asked for: the minute of Istio's dashboards ([1m])."""

HORIZON_S = 300.0
"""How far the past goes back."""

DENSE_S = WINDOW_S + 15.0
"""Within this time any step can be asked about: a window of WINDOW_S begins with one, and steps may be late."""

SPARSE = 6
"""Of older steps one in so many can be asked about: with five seconds each, two a minute."""

MAX_SERVICES = 5_000
"""Services told apart at the same time: what one gateway is made for; 75 MB if every one of them is busy."""

ALL = ""
"""Stands for the sum over all Services."""


class Cell(NamedTuple):
    """What requests are told apart by. `code` 0 means that the client left before the answer."""

    cluster: str
    workload: str
    namespace: str
    version: str
    code: int
    flags: str

    @property
    def is_error(self) -> bool:
        """Whether these requests are errors, as Istio's dashboards count: response_code=~"5.*"."""
        return 500 <= self.code < 600


class Counts:
    """Requests of a Service: by duration (`buckets`, not cumulative) and by `cells`."""

    __slots__ = ("buckets", "cells")

    def __init__(self, buckets: list[int] | None = None, cells: dict[Cell, int] | None = None) -> None:
        self.buckets = buckets if buckets is not None else [0] * (len(BUCKETS) + 1)
        self.cells = cells if cells is not None else {}

    def __repr__(self) -> str:
        return f"Counts(requests={self.requests}, errors={self.errors})"

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(self.buckets)

    @property
    def errors(self) -> int:
        """Those answered with 5xx."""
        return sum(count for cell, count in self.cells.items() if cell.is_error)

    def copy(self) -> Counts:
        """Return a copy."""
        return Counts(self.buckets.copy(), self.cells.copy())

    def less(self, before: Counts | None) -> Counts:
        """Return what has been counted since `before`."""
        if before is None:
            return self.copy()
        buckets = [now - then for now, then in zip(self.buckets, before.buckets, strict=True)]
        cells = {cell: more for cell, count in self.cells.items() if (more := count - before.cells.get(cell, 0))}
        return Counts(buckets, cells)


class Window(NamedTuple):
    """Two moments: a step, and now. Times are Unix seconds, `seconds` what has passed between them on a steady clock."""

    step: int
    start: float
    end: float
    seconds: float


class Figures(NamedTuple):
    """What is said of requests. Ratios and quantiles are None without requests.

    Args:
        requests, errors: how many; errors are those answered with 5xx.
        rate, error_rate: the same for each second.
        error_ratio: the share of errors.
        p50_ms, p99_ms: quantiles of the duration.
    """

    requests: int
    errors: int
    rate: float
    error_rate: float
    error_ratio: float | None
    p50_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, counts: Counts, seconds: float) -> Figures:
        """Return the figures of what was counted in a time."""
        requests, errors = counts.requests, counts.errors
        per_s = 1 / seconds if seconds > 0 else 0.0
        return cls(
            requests, errors, requests * per_s, errors * per_s, errors / requests if requests else None,
            quantile(0.5, counts.buckets), quantile(0.99, counts.buckets),
        )  # fmt: skip


_NOTHING = Figures(0, 0, 0.0, 0.0, None, None, None)


class Point(NamedTuple):
    """One step of a Service's curve: see Figures."""

    rate: float
    error_rate: float
    p50_ms: float | None
    p99_ms: float | None


class _Step(NamedTuple):
    number: int
    at: float
    wall: float


class _Past:
    """One Service's past."""

    __slots__ = ("changed", "kept", "now", "points")

    def __init__(self) -> None:
        self.now = Counts()
        self.changed = False
        self.kept: list[tuple[int, Counts]] = []
        self.points: dict[int, Point] = {}

    def as_of(self, step: int) -> Counts | None:
        """Return what had been counted at the end of a step, None for nothing."""
        return next((counts for number, counts in reversed(self.kept) if number <= step), None)

    def close(self, step: int, seconds: float) -> None:
        """Keep what a step has changed."""
        figures = Figures.of(self.now.less(self.kept[-1][1] if self.kept else None), seconds)
        self.points[step] = Point(figures.rate, figures.error_rate, figures.p50_ms, figures.p99_ms)
        self.kept.append((step, self.now.copy()))
        self.changed = False

    def thin(self, oldest: int, sparse_before: int) -> None:
        """Forget what can no longer be asked about.

        What holds for a step is the last copy made by then, so that of several copies before one such step the last stays.
        """
        for number in [number for number in self.points if number < oldest]:
            del self.points[number]
        groups = [_asked_with(number, oldest, sparse_before) for number, _ in self.kept]
        following = [*groups[1:], None]
        self.kept = [entry for entry, group, after in zip(self.kept, groups, following, strict=True) if group != after]


class History:
    """The recent past of all Services.

    Args:
        identities: who the keys of series speak of.
        clock: monotonic seconds.
        wall: Unix time.

    Attributes:
        left_out: Services that were not told apart in the last step because there are too many.
    """

    def __init__(
        self,
        identities: Identities,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._identities = identities
        self._clock = clock
        self._wall = wall
        self._pasts: dict[str, _Past] = {ALL: _Past()}
        self._names: dict[str, tuple[str, str]] = {}
        self._steps: deque[_Step] = deque([_Step(0, clock(), wall())])
        self.left_out = 0
        self._left_out: set[str] = set()

    def __repr__(self) -> str:
        return f"<History services={len(self._pasts) - 1} steps={len(self._steps)}>"

    # --- what happens ----------------------------------------------------------------------------------------------------

    def observe(self, key: SeriesKey, before: SeriesValue | None, value: SeriesValue) -> None:
        """Count what a worker's series has more than it had before."""
        added = value.count - (before.count if before is not None else 0)
        if not added:
            return
        buckets = value.durations_ms.buckets
        if before is not None:
            buckets = [now - then for now, then in zip(buckets, before.durations_ms.buckets, strict=True)]
        past = self._past_of(key)
        if past is not None:
            identity = self._identities.get(key.destination)
            cell = Cell(key.cluster, identity.workload, identity.namespace, identity.version, key.status, key.flags)
            _add(past, cell, added, buckets)
        _add(self._pasts[ALL], Cell("", "", "", "", key.status, key.flags), added, buckets)

    def _past_of(self, key: SeriesKey) -> _Past | None:
        past = self._pasts.get(key.service)
        if past is None:
            if len(self._pasts) > MAX_SERVICES:
                self._left_out.add(key.service)
                return None
            past = self._pasts[key.service] = _Past()
            self._names[key.service] = (key.service_namespace, key.service_name)
        return past

    def tick(self) -> None:
        """Close a step."""
        last, now = self._steps[-1], self._clock()
        step = _Step(last.number + 1, now, self._wall())
        self._steps.append(step)
        while len(self._steps) > SPARSE and self._steps[SPARSE].at <= now - HORIZON_S:
            for _ in range(SPARSE):  # so that the oldest is always one that can be asked about
                self._steps.popleft()
        oldest = self._steps[0].number
        sparse_before = next(one.number for one in self._steps if one.at >= now - DENSE_S)
        for service, past in list(self._pasts.items()):
            if past.changed:
                past.close(step.number, now - last.at)
            if past.kept:
                past.thin(oldest, sparse_before)
            if not past.points and service != ALL:
                del self._pasts[service], self._names[service]
        self.left_out = len(self._left_out)
        self._left_out.clear()

    # --- what is said of it ----------------------------------------------------------------------------------------------

    def window(self, seconds: float = WINDOW_S) -> Window:
        """Return the window from now back to the newest step that is at least so long ago; the oldest step if there is none."""
        now = self._clock()
        dense = now - DENSE_S
        base = self._steps[0]
        for step in self._steps:
            if step.at > now - seconds:
                break
            if step.at >= dense or step.number % SPARSE == 0:
                base = step
        return Window(base.number, base.wall, self._wall(), now - base.at)

    def services(self) -> dict[str, tuple[str, str]]:
        """Return namespace and name of the Services with traffic of late, by their full names."""
        return self._names.copy()

    def counts(self, service: str, window: Window) -> Counts:
        """Return what was counted of a Service in a window."""
        past = self._pasts.get(service)
        return past.now.less(past.as_of(window.step)) if past is not None else Counts()

    def figures(self, service: str, window: Window) -> Figures:
        """Return the figures of a Service in a window."""
        return Figures.of(self.counts(service, window), window.seconds) if service in self._pasts else _NOTHING

    def curve(self, service: str) -> list[Point | None]:
        """Return a Service's points of all steps, oldest first; None where nothing happened."""
        past = self._pasts.get(service)
        points: Mapping[int, Point] = past.points if past is not None else {}
        return [points.get(step.number) for step in islice(self._steps, 1, None)]

    def times(self) -> Sequence[float]:
        """Return when the steps of `curve` ended, in Unix seconds."""
        return [step.wall for step in islice(self._steps, 1, None)]


def _asked_with(number: int, oldest: int, sparse_before: int) -> int:
    """Return the first step, from this one on, that can be asked about."""
    if number <= oldest:
        return oldest
    return min(-(-number // SPARSE) * SPARSE, sparse_before) if number < sparse_before else number


def _add(past: _Past, cell: Cell, added: int, buckets: Sequence[int]) -> None:
    counts = past.now
    counts.cells[cell] = counts.cells.get(cell, 0) + added
    counts.buckets = [mine + more for mine, more in zip(counts.buckets, buckets, strict=True)]
    past.changed = True
