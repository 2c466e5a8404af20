# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import procfs

_CHILD = """
import subprocess, sys, time
def burn():
    end = time.process_time() + 0.2
    while time.process_time() < end: pass
burn()
subprocess.run([sys.executable, "-c", "import time\\nend = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"])
print("burnt", flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_a_tree_includes_children_that_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        assert procfs.cpu_us([process.pid]) >= 380_000  # twice 0.2 s, less the rounding to clock ticks
        assert procfs.rss_bytes([process.pid]) > 1_000_000


def test_a_tree_holds_each_process_once() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pids = [found.pid for found in procfs.tree([os.getpid(), process.pid])]
        assert os.getpid() in pids
        assert pids.count(process.pid) == 1


def test_a_process_that_ended_is_an_error_not_a_zero() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        procfs.cpu_us([process.pid])
