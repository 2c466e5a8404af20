# SPDX-License-Identifier: Apache-2.0
"""Runs cases: worlds side by side, each trying one case after the other.

A gateway that dies or hangs costs the case it was busy with; the next case of that world gets a new one.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tests.cases.gateway import GatewayError
from tests.cases.model import Case, Mistake
from tests.cases.world import Trial, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Outcome", "run"]

CASE_TIMEOUT_S = 90.0
CASES_PER_WORLD = 6
MAX_WORLDS = min(4, (os.cpu_count() or 1) + 1)
"""Most cases wait rather than compute, but those that measure time want a processor when theirs is due."""

_RESULTS_SHOWN = 20


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a case."""

    id: str
    verdict: Literal["passed", "failed", "not yet"]
    complaints: list[str] = []
    remarks: list[str] = []
    seconds: float = 0.0
    level: str = ""
    requests: list[list[dict[str, Any]]] = []


async def run(
    cases: Sequence[Case | Mistake], *, worlds: int = 0, on_outcome: Callable[[Outcome], None] = lambda _: None
) -> list[Outcome]:
    """Try cases and return their outcomes in the same order.

    Args:
        cases: what to try.
        worlds: how many at a time, 0 to let their number decide.
        on_outcome: called with each outcome, in the order of the cases.

    Raises:
        WorldError: this machine cannot be made into a world.
    """
    outcomes: list[Outcome | None] = [_untried(case) for case in cases]
    pending = [(number, case) for number, case in enumerate(cases) if isinstance(case, Case) and outcomes[number] is None]
    left = iter(pending)
    told = 0

    def tell() -> None:
        nonlocal told
        while told < len(outcomes) and (outcome := outcomes[told]) is not None:
            on_outcome(outcome)
            told += 1

    async def work(world: World) -> None:
        for number, case in left:
            outcomes[number] = await _try(world, case)
            tell()

    tell()
    count = min(worlds or MAX_WORLDS, -(-len(pending) // (1 if worlds else CASES_PER_WORLD)))
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-cases-")))
        made = [await stack.enter_async_context(World(directory / f"world-{number}")) for number in range(count)]
        await asyncio.gather(*(world.start() for world in made))
        await asyncio.gather(*(work(world) for world in made))
    return [outcome for outcome in outcomes if outcome is not None]


def _untried(case: Case | Mistake) -> Outcome | None:
    """Return the outcome of a case that is not tried at all."""
    if isinstance(case, Mistake):
        return Outcome(id=case.id, verdict="failed", complaints=[f"not a case: {case.reason}"])
    if case.is_for_later:
        return Outcome(id=case.id, verdict="not yet", level=case.level)
    return None


async def _try(world: World, case: Case) -> Outcome:
    started = time.monotonic()
    try:
        async with asyncio.timeout(CASE_TIMEOUT_S):
            trial = await world.try_case(case)
    except KeyError as error:
        trial = Trial(complaints=[f"not a case: {error.args[0]}"])
    except (GatewayError, OSError, TimeoutError) as error:
        trial = Trial(complaints=[f"{type(error).__name__}: {error}"])
        await world.reset()
    return Outcome(
        id=case.id,
        verdict="failed" if trial.complaints else "passed",
        complaints=trial.complaints,
        remarks=trial.remarks,
        seconds=round(time.monotonic() - started, 3),
        level=case.level,
        requests=[[msgspec.to_builtins(result) for result in results[:_RESULTS_SHOWN]] for results in trial.results],
    )
