# SPDX-License-Identifier: Apache-2.0
"""The quick comparison: every peer with 1, 16 and 64 connections, with and without request headers, in under a minute.

The gateway recognises a head that a connection has brought before, which a load generator does all the time and real clients do
some of the time. So one more shape gives every request a head of its own: the truth for a service lies between the two.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench import report
from bench.daemon import DaemonError
from bench.load import HEADERS, LoadError, Shape
from bench.peers import PEERS, PeerMissing
from bench.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["SHAPES", "main"]

SHAPES = (
    *(Shape(connections=connections, headers=headers) for connections in (1, 16, 64) for headers in (0, len(HEADERS))),
    Shape(connections=16, headers=len(HEADERS), distinct=True),
)
_RESULT = Path(__file__).with_name("results") / "quick.json"
_ROUNDS = 2
_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; 1 when it failed, 2 when --check was given and a target was missed."""
    options = _parser().parse_args(argv)
    console = Console(width=max(Console().width, 120))  # a pipe has no width; the table is the result and must not be cut
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    try:
        with console.status("") as status:
            result = run(peers, SHAPES, rounds=options.rounds, seconds=options.seconds, progress=status.update)
    except (LoadError, DaemonError, PeerMissing) as exc:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(exc), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    for peer in PEERS:
        if peer not in peers:
            result.missing[peer.name] = "left out with --peers"
    report.show(result, console)
    report.write(result, options.output)
    console.print(f"written to {options.output}", highlight=False)
    return 2 if options.check and not all(verdict.is_met for verdict in report.judge(result.rows)) else 0


def _parser() -> argparse.ArgumentParser:
    names = [peer.name for peer in PEERS]
    listed = ", ".join(names)
    parser = argparse.ArgumentParser(prog="python -m bench.quick", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="bursts per peer and shape (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="length of a burst (default %(default)s)")
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {listed} (default all)")
    parser.add_argument("--output", type=Path, default=_RESULT, help="JSON file to write (default %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 2 when a target is missed")
    return parser


def _leave(number: int, _: FrameType | None) -> None:
    """Turn a signal into an exception, so that everything started is stopped."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
