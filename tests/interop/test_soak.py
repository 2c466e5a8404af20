# SPDX-License-Identifier: Apache-2.0
"""The soak runs, judges, and can be ended early without leaving anything behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from bench import procfs
from bench.soak.records import Result
from bench.soak.verdict import judge
from tests.interop.gateway import wait_for

_PROJECT = Path(__file__).resolve().parents[2]


def test_ctrl_c_gives_what_is_known_and_leaves_nothing_behind(tmp_path: Path) -> None:
    output, temporary = tmp_path / "soak.json", tmp_path / "tmp"
    temporary.mkdir()
    argv = [sys.executable, "-m", "bench.soak", "--minutes", "5", "--output", str(output), "--docs", str(tmp_path)]
    with subprocess.Popen(
        argv, cwd=_PROJECT, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, text=True
    ) as process:
        output_of = process.stdout
        assert output_of is not None
        wait_for(lambda: "endpoints crash" in output_of.readline(), "the first fault", timeout_s=60)
        pids = [found.pid for found in procfs.tree([process.pid])]
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=90)[0]
    assert process.returncode == 130, said
    assert "(interrupted)" in said
    result = msgspec.json.decode(output.read_bytes(), type=Result)
    judged = judge(result)
    assert result.is_partial
    assert judged.problems == []
    assert judged.requests > 100
    assert (tmp_path / "soak.md").exists()
    assert not list(temporary.iterdir())
    assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]
