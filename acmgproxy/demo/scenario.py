# SPDX-License-Identifier: Apache-2.0
"""What the demo does, in order, and its result.

    start servers and gateway -> 90/10 as the sample says -> edit the VirtualService to 50/50
      -> kill one v2 server, start it again, then the other -> stop everything

The servers of v2 die one after the other. The gateway is told nothing: it finds out from refused and reset connections, and
retries on the server that is left. Killing both at once would leave half of the traffic without a server, and no gateway can
answer that.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp

from acmgproxy.demo.processes import wait_until
from acmgproxy.demo.stage import HOST, open_stage
from acmgproxy.demo.traffic import Tally, Traffic, percentile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from acmgproxy.demo.stage import Stage
    from acmgproxy.demo.traffic import PhaseCount
    from acmgproxy.demo.view import View

__all__ = ["DEFAULT_DURATION_S", "Phase", "Result", "find_problems", "play"]

DEFAULT_DURATION_S = 20.0
LIVE_TIMEOUT_S = 10.0
"""Patience for an edited file to be live; it takes well under 0.2 s."""

SIGMAS = 5.0
"""A split further off than this many standard deviations is not chance: one run in two million."""

_SHARES = (0.4, 0.3, 0.3)
_DOWN_SHARE = 0.08
_TICK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One phase of the result, v1 first: weights, observed shares in percent, and answers."""

    title: str
    weights: tuple[int, int]
    observed: tuple[float, float]
    counts: tuple[int, int]
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome.

    Args:
        live_after_ms: from saving the edited VirtualService until the gateway showed it.
        failures: the first few reasons, if any.
        problems: what else went wrong.
    """

    requests: int
    failed: int
    phases: tuple[Phase, ...]
    p50_ms: float
    p99_ms: float
    retries: int
    live_after_ms: float
    duration_s: float
    failures: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether everything went as promised."""
        return not self.failed and not self.problems


async def play(view: View, tally: Tally, duration_s: float) -> Result:
    """Play all phases; requests flow for `duration_s`, and longer only if a server takes long to start.

    Raises:
        SampleError: the sample cannot be used here.
        ProcessError: a process did not start, or ended by itself.
    """
    view.event("starting four helloworld servers and the gateway")
    async with open_stage() as stage:
        view.event(f"ready: {stage.sample.url}")
        start = perf_counter()
        async with Traffic(stage.sample.url, host=HOST, tally=tally), _watching(stage, view):
            await _split_phase(view, tally, (90, 10), _SHARES[0] * duration_s)
            live_after_ms = await _change_weights(stage, view, (50, 50))
            await _split_phase(view, tally, (50, 50), _SHARES[1] * duration_s)
            await _kill_phase(stage, view, tally, _SHARES[2] * duration_s, down_s=_DOWN_SHARE * duration_s)
        elapsed_s = perf_counter() - start
        stage.gateway.check()
        view.retries = await stage.admin.retries()
        view.event("stopping everything")
    return _result(tally, retries=view.retries, live_after_ms=live_after_ms, duration_s=elapsed_s)


async def _split_phase(view: View, tally: Tally, weights: tuple[int, int], duration_s: float) -> None:
    phase = tally.begin_phase("split", weights)
    await asyncio.sleep(duration_s)
    tally.end_phase()
    view.phase_ended(phase)


async def _change_weights(stage: Stage, view: View, weights: tuple[int, int]) -> float:
    """Edit the VirtualService and wait until the gateway shows it; return how many milliseconds that took."""
    start = perf_counter()
    stage.sample.set_weights(*weights)

    async def is_live() -> bool:
        return await stage.admin.has_weights(weights)

    await wait_until(is_live, child=stage.gateway, what=f"routing {weights[0]}/{weights[1]}", timeout_s=LIVE_TIMEOUT_S)
    live_after_ms = 1000 * (perf_counter() - start)
    view.event(f"VirtualService rewritten to {weights[0]}/{weights[1]}: live after {live_after_ms:.0f} ms")
    return live_after_ms


async def _kill_phase(stage: Stage, view: View, tally: Tally, duration_s: float, *, down_s: float) -> None:
    """Kill each server of v2 in turn, leave it dead for `down_s`, and start it again."""
    phase = tally.begin_phase("v2 killed", (50, 50))
    end = perf_counter() + duration_s
    for server in stage.sample.servers:
        if server.version == "v2":
            await stage.kill_server(server)
            view.event(f"{server.instance} killed (SIGKILL)")
            await asyncio.sleep(down_s)
            await stage.start_server(server)
            view.event(f"{server.instance} is back")
    await asyncio.sleep(max(0.0, end - perf_counter()))
    tally.end_phase()
    view.phase_ended(phase)


@contextlib.asynccontextmanager
async def _watching(stage: Stage, view: View) -> AsyncIterator[None]:
    """Keep the view's number of retries fresh."""

    async def watch() -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                view.retries = await stage.admin.retries()
            await asyncio.sleep(_TICK_S)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _result(tally: Tally, *, retries: int, live_after_ms: float, duration_s: float) -> Result:
    phases = tuple(
        Phase(
            title=phase.title,
            weights=phase.weights,
            observed=(round(phase.observed[0], 2), round(phase.observed[1], 2)),
            counts=phase.counts,
            failed=phase.failed,
        )
        for phase in tally.phases
    )
    return Result(
        requests=tally.requests,
        failed=tally.failed,
        phases=phases,
        p50_ms=round(percentile(tally.latencies_ms, 50), 3),
        p99_ms=round(percentile(tally.latencies_ms, 99), 3),
        retries=retries,
        live_after_ms=round(live_after_ms, 1),
        duration_s=round(duration_s, 2),
        failures=tuple(tally.failures),
        problems=tuple(find_problems(tally.phases)),
    )


def find_problems(phases: list[PhaseCount]) -> list[str]:
    """Say which phases saw no answers, or a split that chance does not explain."""
    problems = []
    for phase in phases:
        answers = sum(phase.counts)
        if not answers:
            problems.append(f"{phase.title} {phase.weights}: no answers")
            continue
        share = phase.weights[0] / sum(phase.weights)
        deviation = abs(phase.counts[0] - share * answers) / math.sqrt(answers * share * (1 - share))
        if deviation > SIGMAS:
            problems.append(f"{phase.title} {phase.weights}: {phase.counts} is {deviation:.1f} standard deviations off")
    return problems
