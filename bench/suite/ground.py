# SPDX-License-Identifier: Apache-2.0
"""Where a full run happens: the upstream, the peers that run from beginning to end, and how one burst is measured."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench import procfs
from bench.load import BODY, PATH, LoadError, Shape, burst
from bench.openloop import offer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from bench.machine import Cpus
    from bench.openloop import Offering
    from bench.peers import Peer, Running, Site

__all__ = ["Figures", "Ground", "closed_burst", "cpu_per_request", "open_burst", "pinned", "warm_up"]

Figures = dict[str, float]
"""What one burst gave, by metric."""

_WARM_UP = Shape(connections=16)
_WARM_UP_S = 0.3


@dataclass(slots=True, kw_only=True)
class Ground:
    """What all tables of a run share.

    Args:
        cpus: of the two sides.
        site: where peers are started; load_site: where the load's side is.
        started: peers that stay, by name.
        missing: peers that are not there, with the reason.
        versions: of the programs.
        configurations: of the peers, by name and file.
    """

    cpus: Cpus
    site: Site
    load_site: Site
    started: dict[str, Running] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    configurations: dict[str, dict[str, str]] = field(default_factory=dict)

    def among(self, names: Iterable[str]) -> dict[str, Running]:
        """Return the started peers of these names."""
        return {name: self.started[name] for name in names if name in self.started}

    def has(self, peer: Peer) -> bool:
        """Whether a peer of this name was found at the start."""
        return peer.name in self.started

    def site_on(self, cpus: Collection[int], folder: str) -> Site:
        """Return a site of other CPUs with a directory of its own, for peers that do not stay."""
        directory = self.site.directory / folder
        directory.mkdir()
        return replace(self.site, directory=directory, cpus=cpus)


@contextmanager
def pinned(cpus: Collection[int]) -> Iterator[None]:
    """Run this process and what it starts on these CPUs; on any if there are none to choose from."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def warm_up(running: Running, shape: Shape = _WARM_UP) -> None:
    """Wait until the peer answers as it shall, then load it a little."""
    for daemon in running.daemons:
        daemon.wait_answer(running.address, path=PATH, body=BODY)
    burst(running.address, shape, seconds=_WARM_UP_S)


def cpu_per_request(running: Running, load: Callable[[], int]) -> float:
    """Return the microseconds of processor time that the peer's processes spend per request of `load`."""
    pids = [process.pid for process in procfs.tree(running.pids)]
    before = procfs.busy_us(pids)
    requests = load()
    return (procfs.busy_us(pids) - before) / requests


def closed_burst(running: Running, shape: Shape, *, seconds: float) -> Figures:
    """Load as fast as the answers come (wrk).

    Raises:
        LoadError: a request failed; with the end of the peer's log.
    """
    figures: Figures = {}

    def load() -> int:
        sample = burst(running.address, shape, seconds=seconds)
        per_second = sample.requests / sample.duration_us * 1e6
        figures.update(rps=round(per_second, 1), p50_us=sample.percentile_us(50), p99_us=sample.percentile_us(99))
        return sample.requests

    cpu = _explained(running, lambda: cpu_per_request(running, load))
    return {**figures, **({"cpu_us": round(cpu, 2)} if running.daemons else {})}


def open_burst(running: Running, offering: Offering, *, seconds: float, meanwhile: Callable[[], None] | None = None) -> Figures:
    """Load at a fixed rate.

    Raises:
        LoadError: a request failed; with the end of the peer's log.
    """
    figures: Figures = {}

    def load() -> int:
        offered = offer(running.address, offering, seconds=seconds, meanwhile=meanwhile)
        sample = offered.sample
        figures.update(
            p50_us=sample.percentile_us(50),
            p90_us=sample.percentile_us(90),
            p99_us=sample.percentile_us(99),
            p999_us=sample.percentile_us(99.9),
            waited=offered.waited,
            lag_p50_us=offered.lag_p50_us,
            lag_p99_us=offered.lag_p99_us,
            client_cpu_us=round(offered.client_cpu_us / sample.requests, 2),
        )
        return sample.requests

    cpu = _explained(running, lambda: cpu_per_request(running, load))
    return {**figures, **({"cpu_us": round(cpu, 2)} if running.daemons else {})}


def _explained(running: Running, measure: Callable[[], float]) -> float:
    try:
        return measure()
    except LoadError as exc:
        details = [str(daemon.error("its log ends with")) for daemon in running.daemons]
        raise LoadError("\n".join([str(exc), *details])) from exc
