# SPDX-License-Identifier: Apache-2.0
"""The demo as a command: options in, exit code out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson
from rich.console import Console

from acmgproxy.demo.processes import ProcessError
from acmgproxy.demo.sample import SampleError
from acmgproxy.demo.scenario import DEFAULT_DURATION_S, play
from acmgproxy.demo.stage import HOST, open_stage
from acmgproxy.demo.traffic import Tally
from acmgproxy.demo.view import View

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from acmgproxy.demo.scenario import Result

__all__ = ["run_demo"]

INTERRUPTED = 130
"""What shells report for a program that Ctrl-C ended."""


def run_demo(*, duration_s: float = DEFAULT_DURATION_S, as_json: bool = False, serve: bool = False) -> int:
    """Run the demo.

    Args:
        duration_s: how long requests flow.
        as_json: print the result as one line of JSON, and everything else to standard error.
        serve: send no requests; stay up for the user's own, until Ctrl-C.

    Returns:
        Exit code: 0 when all went well, 1 when a request failed or the demo could not run, 130 when it was interrupted.
    """
    console = Console(stderr=as_json, highlight=False)
    work = _serve(console) if serve else _demonstrate(console, duration_s, as_json=as_json)
    try:
        return asyncio.run(_ended_by_sigterm(work))
    except (SampleError, ProcessError) as error:
        console.print(f"acmgproxy demo: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0 if serve else INTERRUPTED


async def _ended_by_sigterm(work: Coroutine[None, None, int]) -> int:
    """Run `work`; let SIGTERM end it as Ctrl-C does, so that no child is left behind."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


async def _demonstrate(console: Console, duration_s: float, *, as_json: bool) -> int:
    tally = Tally()
    with View(console, tally) as view:
        result = await play(view, tally, duration_s)
    if as_json:
        print(orjson.dumps(asdict(result)).decode(), flush=True)
    _print_verdict(console, result)
    return 0 if result.is_good else 1


def _print_verdict(console: Console, result: Result) -> None:
    for reason in (*result.failures, *result.problems):
        console.print(reason, style="red", markup=False, soft_wrap=True)
    numbers = f"{result.requests} requests, {result.retries} retries, p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms"
    verdict = f"{result.failed} requests failed" if result.failed else "no request failed"
    console.print(f"{numbers}: {verdict}", style="bold green" if result.is_good else "bold red", soft_wrap=True)


async def _serve(console: Console) -> int:
    """Stay up until cancelled."""
    async with open_stage() as stage:
        sample = stage.sample
        for line in (
            "The gateway and four helloworld servers are up. Try",
            f"  curl {sample.url}",
            f"  curl -H 'Host: {HOST}' {sample.url}",
            f"  curl http://{sample.admin}/metrics",
            f"and edit the weights in {sample.directory / 'routing.yaml'}",
            "Ctrl-C stops everything.",
        ):
            console.print(line, markup=False, soft_wrap=True)
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                stage.gateway.check()
                await asyncio.sleep(1)
    return 0
