# SPDX-License-Identifier: Apache-2.0
"""The full comparison: every table, in about ten minutes (`--short`: each once and briefly, about a minute).

    python -m bench full                                  writes bench/results/full.json; then: make bench-report
    python -m bench full --tables rates churn             some tables; the others stay as the file has them

A table is a function of `bench.suite`. Everything that a reader needs to judge the figures goes into the file: machine, versions,
commit, how much was measured, and the configuration of every peer.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import machine, memory
from bench.daemon import DaemonError
from bench.load import LoadError, wrk_version
from bench.peers import PEERS, PeerMissing, Site
from bench.suite import footprint, sizes, traffic
from bench.suite.churn import churn
from bench.suite.client import client
from bench.suite.ground import Ground, pinned, warm_up
from bench.suite.plan import FULL, SHORT
from bench.upstream import start_upstream, upstream_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from types import FrameType

    from bench.suite.plan import Plan
    from bench.suite.table import Row

__all__ = ["RESULT", "TABLES", "main", "run"]

RESULT = Path(__file__).with_name("results") / "full.json"
_PROJECT = Path(__file__).resolve().parents[1]

TABLES: dict[str, Callable[[Ground, Plan, Callable[[str], None]], list[Row]]] = {
    "at_rest": footprint.at_rest,
    "connections": traffic.connections,
    "new_connections": traffic.new_connections,
    "client": client,
    "rates": traffic.rates,
    "bodies": traffic.bodies,
    "under_load": footprint.under_load,
    "table_hosts": sizes.table_hosts,
    "workers": sizes.workers,
    "churn": churn,
    "memory": memory.each,
}
"""In the order in which they are measured: rest comes before load."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the file; 1 when the run or one of its tables failed."""
    options = _parser().parse_args(argv)
    console = Console(width=max(Console().width, 120))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    plan = SHORT if options.short else FULL
    try:
        with _progress(console, len(options.tables)) as (begin, step):
            result = run(plan, options.tables, begin=begin, step=step)
    except (LoadError, DaemonError, PeerMissing, OSError) as exc:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(exc), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    if set(options.tables) != set(TABLES):
        _keep_others(result, options.output)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, reason in result["missing"].items():
        console.print(f"[bold red]MISSING[/] {name}: {reason}", highlight=False)
    for name, reason in result["failed"].items():
        console.print(f"[bold red]FAILED[/] {name}:", end=" ")
        console.print(reason, markup=False, highlight=False)
    console.print(f"written to {options.output} after {result['minutes']} minutes; next: make bench-report", highlight=False)
    return 1 if result["failed"] else 0


def run(plan: Plan, tables: Collection[str], *, begin: Callable[[str], None], step: Callable[[str], None]) -> dict[str, Any]:
    """Measure these tables; `begin` is told the name of each, `step` what is about to be done.

    A table in which a request failed is left out and named under "failed".

    Raises:
        LoadError: a request failed before the first table, or wrk is missing.
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx, which is the upstream of all, is not installed.
    """
    started_at = datetime.now(UTC)
    cpus = machine.split_cpus()
    described = machine.describe(cpus)
    found: dict[str, list[dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        stack.enter_context(pinned(cpus.load))
        ground = _prepare(stack, directory, cpus, step)
        is_warm = False
        for name in (name for name in TABLES if name in tables):
            begin(name)
            if name != "at_rest" and not is_warm:
                _warm_up(ground, step)
                is_warm = True
            try:
                found[name] = [row.as_json() for row in TABLES[name](ground, plan, step)]
            except (LoadError, DaemonError, OSError) as exc:  # the other tables are worth having
                failed[name] = str(exc)
    date, commit = started_at.strftime("%Y-%m-%d"), _commit()
    return {
        "date": date,
        "minutes": round((datetime.now(UTC) - started_at).total_seconds() / 60, 1),
        "commit": commit,
        "measured": dict.fromkeys(found, f"{date}, commit {commit}"),
        "machine": described,
        "versions": ground.versions,
        "missing": ground.missing,
        "failed": failed,
        "plan": plan.as_json(),
        "configurations": ground.configurations,
        "tables": found,
    }


def _prepare(stack: ExitStack, directory: Path, cpus: machine.Cpus, step: Callable[[str], None]) -> Ground:
    """Start the upstream and every peer that is installed, and wait until they answer."""
    step("starting the upstream and the peers")
    upstreams = upstream_addresses()
    site = Site(directory=directory, cpus=cpus.proxy, upstreams=upstreams, stack=stack)
    load_site = Site(directory=directory, cpus=cpus.load, upstreams=upstreams, stack=stack)
    ground = Ground(cpus=cpus, site=site, load_site=load_site, versions={"wrk": wrk_version()})
    start_upstream(load_site)
    for peer in PEERS:
        try:
            ground.versions[peer.name] = peer.version()
        except PeerMissing as reason:
            ground.missing[peer.name] = str(reason)
        else:
            running = ground.started[peer.name] = peer.start(site)
            ground.configurations[peer.name] = running.configuration
    for running in ground.started.values():
        for daemon in running.daemons:
            daemon.wait_listening(running.address)
    return ground


def _warm_up(ground: Ground, step: Callable[[str], None]) -> None:
    for name, running in ground.started.items():
        step(f"warming up {name}")
        warm_up(running)


@contextmanager
def _progress(console: Console, tables: int) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Show what is done: a bar of the tables, the time, the step."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed}/{task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[step]}"), console=console) as progress:
        task = progress.add_task("preparing", total=tables, step="")
        names: list[str] = []

        def begin(name: str) -> None:
            if names:
                console.print(f"[green]done[/] {names[-1]}", highlight=False)
            names.append(name)
            progress.update(task, description=name, completed=len(names) - 1)

        def step(text: str) -> None:
            progress.update(task, step=text)

        yield begin, step
        progress.update(task, completed=tables, step="")


def _keep_others(result: dict[str, Any], path: Path) -> None:
    """Add the tables of an earlier run that are not measured now, with its date and commit."""
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    tables = {**earlier["tables"], **result["tables"]}
    result["tables"] = {name: tables[name] for name in TABLES if name in tables}
    for name in set(result["tables"]) - set(result["measured"]):
        result["measured"][name] = earlier["measured"][name]


def _commit() -> str:
    """Return the commit that was measured, and whether the files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(_PROJECT), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "acmgproxy", "routing", "discovery")
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _parser() -> argparse.ArgumentParser:
    names = list(TABLES)
    parser = argparse.ArgumentParser(
        prog="python -m bench full", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="everything once and briefly: to see that it works, not for figures")
    parser.add_argument("--tables", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write (default %(default)s)")
    return parser


def _leave(number: int, _: FrameType | None) -> None:
    """Turn a signal into an exception, so that everything started is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
