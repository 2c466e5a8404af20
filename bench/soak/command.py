# SPDX-License-Identifier: Apache-2.0
"""Hours in the life of a gateway, made short: mixed traffic, faults and changes all at once, and nothing may leak or fail.

    make soak MINUTES=60                             writes bench/results/soak.json, and docs/soak.md with its plots
    python -m bench soak --minutes 3 --no-document   as CI runs it
    python -m bench soak --document-only             docs/soak.md anew from the result

The exit code is 1 when something failed that no fault explains, or something grew; 130 after Ctrl-C, with what is known by then.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.daemon import DaemonError
from bench.soak.document import write
from bench.soak.records import Plan, Result
from bench.soak.run import Soak
from bench.soak.verdict import MIB, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.verdict import Judged

__all__ = ["main"]

_PROJECT = Path(__file__).resolve().parents[2]
_RESULT = _PROJECT / "bench" / "results" / "soak.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak, or write the document of one."""
    options = _parser().parse_args(argv)
    console = Console(width=max(Console().width, 110))
    if options.document_only:
        try:
            result = msgspec.json.decode(options.output.read_bytes(), type=Result)
        except OSError as error:
            console.print(f"{options.output} cannot be read ({error.strerror}); make soak writes it", markup=False)
            return 1
    else:
        try:
            result = _run(options, console)
        except DaemonError as error:
            console.print("[bold red]FAILED[/]", end=" ")
            console.print(str(error), markup=False, highlight=False)
            return 1
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_bytes(msgspec.json.encode(result) + b"\n")
    judged = judge(result)
    _show(result, judged, console)
    if options.document:
        for path in write(result, judged, options.docs):
            console.print(f"written: {path}", highlight=False)
    if result.is_partial:
        return 130
    return 1 if judged.problems else 0


def _run(options: argparse.Namespace, console: Console) -> Result:
    seconds = options.minutes * 60
    plan = Plan(seconds=seconds, workers=options.workers, seed=options.seed)
    columns = (TextColumn("{task.description:26}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=seconds)
        last = ""

        def progress(elapsed: float, what: str) -> None:
            nonlocal last
            last = what or last
            bar.update(task, completed=min(elapsed, seconds), description=last)
            if what and not console.is_terminal:
                console.print(f"{elapsed:7.1f} s  {what}", highlight=False)

        return Soak(plan, progress).run()


def _show(result: Result, judged: Judged, console: Console) -> None:
    verdict = "[bold red]FAILED[/]" if judged.problems else "[bold green]PASSED[/]"
    part = " (interrupted)" if result.is_partial else ""
    minutes = (result.ended_at - result.began_at) / 60
    console.print(
        f"{verdict}{part}: {judged.requests:,} requests in {minutes:.1f} minutes, {len(result.faults)} faults, "
        f"{sum(result.changes.values()):,} changes, {sum(judged.explained.values())} failures explained, "
        f"{len(judged.unexplained)} not",
        highlight=False,
    )
    table = Table("", "looked at for", "memory grows by", "grown", "allowed")
    for one in judged.growth:
        table.add_row(
            f"{one.role} {one.pid}", f"{one.seconds:.0f} s", f"{one.per_hour / MIB:.1f} MiB/h", f"{one.grown / MIB:.1f} MiB",
            f"{one.allowed / MIB:.1f} MiB",
        )  # fmt: skip
    console.print(table)
    before, after = judged.descriptors
    console.print(f"descriptors besides connections: {before:.0f} before, {after:.0f} after", highlight=False)
    p99 = judged.p99
    console.print(
        f"p99: {p99.first_ms:.1f} ms in the first third, {p99.last_ms:.1f} ms in the last, {p99.allowed_ms:.1f} ms allowed",
        highlight=False,
    )
    for problem in judged.problems:
        console.print(f"- {problem}", style="red", markup=False, highlight=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description="Hours in the life of a gateway, made short.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers of the gateway (default %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of what is left to chance (default %(default)s)")
    parser.add_argument("--output", type=Path, default=_RESULT, help="JSON file to write (default %(default)s)")
    parser.add_argument("--docs", type=Path, default=_PROJECT / "docs", help="where soak.md is written (default %(default)s)")
    parser.add_argument("--no-document", dest="document", action="store_false", help="write no soak.md")
    parser.add_argument("--document-only", action="store_true", help="write soak.md from the JSON file; run nothing")
    return parser
