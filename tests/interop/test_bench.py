# SPDX-License-Identifier: Apache-2.0
"""The quick comparison runs, and fails when a request fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import procfs
from bench.load import HEADERS, LoadError, Shape, burst
from tests.interop.gateway import wait_for
from tests.interop.upstream import Upstream

_PROJECT = Path(__file__).resolve().parents[2]
_QUICK = (sys.executable, "-m", "bench.quick", "--rounds", "1", "--seconds", "0.4")


def test_the_quick_comparison_measures_the_gateway(tmp_path: Path) -> None:
    output = tmp_path / "quick.json"
    done = subprocess.run(
        [*_QUICK, "--peers", "direct", "acmgproxy", "--output", str(output)],
        cwd=_PROJECT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(output.read_text())
    shapes = {(connections, headers) for connections in (1, 16, 64) for headers in (0, len(HEADERS))}
    for name in ("direct", "acmgproxy"):
        rows = [row for row in document["rows"] if row["name"] == name]
        assert {(row["connections"], row["headers"]) for row in rows} == shapes
        assert all(row["rps"] > 0 and 0 < row["p50_us"] <= row["p99_us"] for row in rows)
        assert all((row["cpu_us_per_request"] > 0) is (row["rss_mb"] > 0) is (name == "acmgproxy") for row in rows)
    assert set(document["missing"]) == {"nginx", "haproxy", "envoy", "envoy-two-hops"}
    assert "MISSING envoy" in done.stdout


@pytest.mark.parametrize("status", [302, 404, 503])
def test_an_answer_other_than_2xx_fails_the_run(status: int) -> None:
    with Upstream() as upstream:
        upstream.on("/hello", lambda exchange: exchange.answer(status))
        with pytest.raises(LoadError):
            burst(upstream.address, Shape(connections=2), seconds=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*_QUICK, "--peers", "nginx", "--rounds", "1000", "--output", str(tmp_path / "quick.json")],
        cwd=_PROJECT, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        wait_for(lambda: b"wrk" in b"".join(_commands(process.pid)), "the load to begin")
        pids = [found.pid for found in procfs.tree([process.pid])]
        process.send_signal(number)
        assert process.wait(30) != 0
    wait_for(lambda: not any(_is_running(pid) for pid in pids), "all processes to end")
    assert number is signal.SIGKILL or not list(tmp_path.iterdir())


def _commands(pid: int) -> list[bytes]:
    commands = []
    for found in procfs.tree([pid]):
        try:
            commands.append(Path(f"/proc/{found.pid}/cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
    return commands


def _is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] != "Z"  # orphans wait for init to reap them
