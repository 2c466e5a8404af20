# SPDX-License-Identifier: Apache-2.0
"""`python -m fuzz --seconds N [TARGET...]`: searches all targets for N seconds in all, as many at a time as there are processors.

The corpus grows from run to run in a directory that is not kept in the repository. A crash goes to `fuzz/regressions/TARGET/`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.targets import REGRESSIONS, TARGETS

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_DICTIONARY = Path(__file__).with_name("http.dict")
_MAX_BYTES = 4096
"""Of an input: several messages, not the limits; those have tests of their own."""
_ONE_INPUT_S = 10


def main() -> int:
    """Run the command line. The exit code is 1 if a target failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Search for inputs that break an invariant.")
    parser.add_argument("--seconds", type=int, default=60, help="time for all targets together (default: 60)")
    parser.add_argument("--corpus", type=Path, default=_ROOT / ".fuzz", help="directory of the corpora (default: .fuzz)")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="default: all")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    jobs = min(len(os.sched_getaffinity(0)), len(names))
    seconds = max(1, options.seconds * jobs // len(names))
    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(lambda name: _search(name, seconds, options.corpus / name), names))
    return 1 if any(codes) else 0


def _search(name: str, seconds: int, corpus: Path) -> int:
    """Search one target in a process of its own and say what came of it."""
    corpus.mkdir(parents=True, exist_ok=True)
    crashes = REGRESSIONS / name
    crashes.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].seeds:
        (corpus / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)
    before = set(crashes.iterdir())
    argv = [sys.executable, "-m", "fuzz.engine", name, str(corpus), str(crashes), f"-artifact_prefix={crashes}/"]
    argv += [f"-max_total_time={seconds}", f"-max_len={_MAX_BYTES}", f"-timeout={_ONE_INPUT_S}", f"-dict={_DICTIONARY}"]
    done = subprocess.run(
        [*argv, "-print_final_stats=1"], cwd=_ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else 'no'} inputs in {seconds} s, exit code {done.returncode}", flush=True)
    new = sorted(set(crashes.iterdir()) - before)
    if done.returncode or new:
        print(done.stdout + done.stderr[-4000:], *(f"kept: {path.relative_to(_ROOT)}" for path in new), sep="\n", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
