# SPDX-License-Identifier: Apache-2.0
"""Whether the client of fixed rates measures right: at a low rate on one connection, where nothing waits, it agrees with h2load.

h2load is older, in C, and tells the latency of every request; at such a rate its closed loop leaves nothing out.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

from bench.load import HEADERS, PATH, LoadError
from bench.openloop import Offering
from bench.suite.ground import Figures, Ground, open_burst
from bench.suite.table import Case, Row, interleave

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Running
    from bench.suite.plan import Plan

__all__ = ["client"]

_RATE = 500
_SECONDS = 2.0
_PEERS = ("direct", "acmgproxy")


def client(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """Measure the same load by both clients."""
    seconds = min(_SECONDS, plan.rate_seconds)
    own = Case(
        labels={"client": "bench.openloop", "rate": _RATE},
        measure=partial(open_burst, offering=Offering(rate=_RATE, connections=1), seconds=seconds),
    )
    cases = [own]
    if shutil.which("h2load") is None:
        ground.missing["h2load"] = "h2load is not installed (apt-get install nghttp2-client)"
    else:
        cases.append(Case(labels={"client": "h2load", "rate": _RATE}, measure=partial(_h2load, seconds=seconds)))
    return interleave(ground.among(_PEERS), cases, rounds=plan.rate_rounds, step=step)


def _h2load(running: Running, *, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory(prefix="acmgproxy-bench-") as directory:
        log = Path(directory) / "log"
        count = str(round(_RATE * seconds))
        argv = ["h2load", "--h1", "--clients=1", f"--rps={_RATE}", f"--requests={count}", f"--log-file={log}"]
        argv += [f"--header={header}" for header in HEADERS]
        argv.append(f"http://{running.address[0]}:{running.address[1]}{PATH}")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
        if done.returncode or f"{count} succeeded" not in done.stdout:
            raise LoadError(f"h2load: {(done.stderr or done.stdout).strip()}")
        latencies = [int(line.split()[2]) for line in log.read_text(encoding="ascii").splitlines()]
    cuts = quantiles(latencies, n=100, method="inclusive")
    return {"p50_us": cuts[49], "p90_us": cuts[89], "p99_us": cuts[98]}
