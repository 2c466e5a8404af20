# SPDX-License-Identifier: Apache-2.0
"""Two revisions of the gateway side by side: what a change costs or saves.

    make bench-compare REV=main                     the working tree beside a revision
    make bench-compare REV=v1 ARGS="--with v2"      two revisions

Both run at once, with the same Python, the same libraries and the same `bench`, each from a directory of its own; the shapes are
those of quick. In each round the two take turns on each shape, every other round in the other order, and a ratio is taken round
by round. What is told is the median ratio with the range of its middle half: when 1.00 lies in it, this run shows no difference.
"""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
import tarfile
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.daemon import DaemonError
from bench.load import LoadError
from bench.peers import PeerMissing, Site
from bench.peers.gateway import Gateway
from bench.quick import SHAPES
from bench.suite.ground import closed_burst, pinned, warm_up
from bench.suite.table import Case, interleave
from bench.upstream import start_upstream, upstream_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from bench.suite.table import Row

__all__ = ["RevisionError", "compare", "main", "middle"]

_PROJECT = Path(__file__).resolve().parents[1]
_PACKAGES = ("acmgproxy", "routing", "discovery")
_METRICS = (("cpu_us", "CPU us/req"), ("p50_us", "p50 us"), ("p99_us", "p99 us"), ("rps", "req/s"))


class RevisionError(Exception):
    """There is no such revision."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print the ratios; 1 when that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="what to compare with: the base of the ratios")
    parser.add_argument("--with", dest="other", default="", metavar="REVISION", help="the other side (default: the working tree)")
    parser.add_argument("--rounds", type=int, default=11, help="bursts per side and shape (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a burst (default %(default)s)")
    options = parser.parse_args(argv)
    console = Console(width=max(Console().width, 120))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        with console.status("") as status:
            rows = compare(options.revision, options.other, rounds=options.rounds, seconds=options.seconds, step=status.update)
    except (RevisionError, LoadError, DaemonError, PeerMissing) as exc:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(exc), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    console.print(f"{options.other or 'the working tree'} / {options.revision}", highlight=False)
    console.print(_table(rows))
    console.print("bold: 1.00 is outside the middle half of the rounds. Fewer is better, but for req/s.", highlight=False)
    return 0


def compare(revision: str, other: str, *, rounds: int, seconds: float, step: Callable[[str], None]) -> list[Row]:
    """Measure both sides, called "base" and "other"; an empty `other` is the working tree.

    Raises:
        RevisionError: there is no such revision.
        LoadError: a request failed, or wrk is missing.
        DaemonError: a server process did not start, or ended.
        PeerMissing: nginx, which is the upstream, is not installed.
    """
    cpus = machine.split_cpus()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acmgproxy-bench-")))
        trees = {
            "base": _checked_out(revision, directory / "tree-base"),
            "other": _checked_out(other, directory / "tree-other") if other else _PROJECT,
        }
        stack.enter_context(pinned(cpus.load))
        upstreams = upstream_addresses()
        start_upstream(Site(directory=directory, cpus=cpus.load, upstreams=upstreams, stack=stack))
        site = Site(directory=directory, cpus=cpus.proxy, upstreams=upstreams, stack=stack)
        running = {}
        for name, tree in trees.items():
            step(f"starting {name}")
            running[name] = Gateway(name, tree=tree).start(site)
            warm_up(running[name])
        cases = [
            Case(labels={"shape": str(shape)}, measure=partial(closed_burst, shape=shape, seconds=seconds)) for shape in SHAPES
        ]
        return interleave(running, cases, rounds=rounds, step=step)


def middle(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and the bounds of the middle half."""
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return median(ratios), low, high


def _checked_out(revision: str, directory: Path) -> Path:
    """Put the packages of a revision into a directory; the repository itself is not touched."""
    argv = ["git", "-C", str(_PROJECT), "archive", "--format=tar", revision, "--", *_PACKAGES, "deploy"]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        msg = f"{revision} cannot be checked out: {done.stderr.decode(errors='replace').strip()}"
        raise RevisionError(msg)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def _table(rows: Sequence[Row]) -> Table:
    table = Table("shape", *(title for _, title in _METRICS), box=box.SIMPLE_HEAD)
    sides = {name: {row.labels["shape"]: row.values for row in rows if row.peer == name} for name in ("base", "other")}
    for shape, base in sides["base"].items():
        table.add_row(shape, *(_cell(base[metric], sides["other"][shape][metric]) for metric, _ in _METRICS))
    return table


def _cell(base: Sequence[float], other: Sequence[float]) -> str:
    value, low, high = middle([mine / its for mine, its in zip(other, base, strict=True)])
    text = f"{value:.2f} ({low:.2f} to {high:.2f})"
    return text if low <= 1 <= high else f"[bold]{text}[/]"


def _leave(number: int, _: FrameType | None) -> None:
    """Turn a signal into an exception, so that everything started is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
