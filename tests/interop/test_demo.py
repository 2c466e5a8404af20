# SPDX-License-Identifier: Apache-2.0
"""`acmgproxy demo` as a user runs it: real processes, exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DEMO = (sys.executable, "-m", "acmgproxy", "demo")
TIMEOUT_S = 90.0


def _start(*options: str, **kwargs: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*DEMO, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


def _finish(demo: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = demo.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        demo.kill()
        out, err = demo.communicate()
        pytest.fail(f"the demo did not end\n{out}\n{err}")
    return demo.returncode, out, err


def _children(pid: int) -> set[int]:
    """All descendants of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _assert_gone(pids: set[int]) -> None:
    """Wait until none of the processes is there any more; those that their parent has not looked at yet count as gone."""
    deadline = time.monotonic() + 10
    while left := {pid for pid in pids if _is_alive(pid)}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        os.sched_yield()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_split_change_and_killed_servers_lose_no_request() -> None:
    code, out, err = _finish(_start("--duration", "6", "--json"))
    assert code == 0, out + err
    result = json.loads(out)
    assert result["failed"] == 0
    assert [phase["weights"] for phase in result["phases"]] == [[90, 10], [50, 50], [50, 50]]
    for phase in result["phases"]:
        assert sum(phase["counts"]) > 50
        assert phase["observed"][0] == pytest.approx(phase["weights"][0], abs=20)
        assert sum(phase["observed"]) == pytest.approx(100, abs=0.1)
    assert result["requests"] >= sum(sum(phase["counts"]) for phase in result["phases"])
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["retries"] > 0


def test_two_demos_run_side_by_side() -> None:
    demos = [_start("--duration", "2", "--json") for _ in range(2)]
    for code, out, err in [_finish(demo) for demo in demos]:
        assert code == 0, out + err
        assert json.loads(out)["failed"] == 0


def test_without_a_terminal_it_prints_plain_lines() -> None:
    code, out, err = _finish(_start("--duration", "2"))
    assert code == 0, out + err
    assert "VirtualService rewritten to 50/50" in out
    assert "killed (SIGKILL)" in out
    assert "no request failed" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_a_curl_line_that_works_and_stops_without_a_trace(number: signal.Signals) -> None:
    demo = _start("--serve", env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line.strip())
        if "Ctrl-C" in line:
            break
    curl = next(line for line in lines if line.startswith("curl "))
    answer = subprocess.run([*curl.split(), "--silent", "--fail"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("Hello version: v")
    children = _children(demo.pid)
    assert len(children) >= 5
    demo.send_signal(number)
    code, _, err = _finish(demo)
    assert code == 0, err
    _assert_gone(children)


def test_interrupted_demo_stops_without_a_trace() -> None:
    demo = _start("--duration", "60", env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert demo.stdout is not None
    next(line for line in demo.stdout if "ready" in line)
    children = _children(demo.pid)
    demo.send_signal(signal.SIGINT)
    code, _, err = _finish(demo)
    assert code == 130, err
    _assert_gone(children)
