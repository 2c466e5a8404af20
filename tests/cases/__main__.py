# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.cases FILE...`: runs case files against the gateway, a line per case, and says how many passed.

Exit code 0 if none failed, 1 if one did, 2 if nothing could be tried.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import uvloop

from tests.cases.model import Case, CaseError, Mistake, load
from tests.cases.runner import Outcome, run
from tests.cases.world import WorldError

__all__ = ["main"]


def main() -> int:
    """Run the command."""
    options = _options()
    try:
        cases = [case for path in _files(options.files) for case in load(path)]
        if options.only:
            cases = _chosen(cases, options.only)
        outcomes = uvloop.run(_run(cases, options.worlds))
    except (CaseError, WorldError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(outcomes), indent=2))
    count = {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("passed", "failed", "not yet")}
    later = f" ({count['not yet']} not yet)" if count["not yet"] else ""
    print(f"{count['passed']} passed, {count['failed']} failed{later}")
    return 1 if count["failed"] else 0


async def _run(cases: list[Case | Mistake], worlds: int) -> list[Outcome]:
    return await run(cases, worlds=worlds, on_outcome=_show)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cases", description="Run case files against the gateway.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a case file, or a directory of them")
    parser.add_argument("--only", action="append", metavar="ID", help="run this case alone (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was seen to this file")
    parser.add_argument("--worlds", type=int, default=0, metavar="N", help="how many cases to try at a time (default: up to 4)")
    return parser.parse_args()


def _files(paths: list[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]


def _chosen(cases: list[Case | Mistake], ids: list[str]) -> list[Case | Mistake]:
    chosen = [case for case in cases if case.id in ids]
    if missing := set(ids) - {case.id for case in chosen}:
        raise CaseError(f"no case has the id {', '.join(sorted(missing))}")
    return chosen


def _show(outcome: Outcome) -> None:
    lines = [f"{outcome.verdict:8}{outcome.id}" + (f"  ({outcome.seconds:.2f} s)" if outcome.seconds else "")]
    lines += [f"    {text}" for text in outcome.complaints]
    if outcome.complaints:
        lines += [f"    note: {text}" for text in outcome.remarks]
    else:
        lines += [f"    note: {text}" for text in outcome.remarks if text.startswith("refused")]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
