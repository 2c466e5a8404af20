# SPDX-License-Identifier: Apache-2.0
"""Facts about a worker's own log."""

from __future__ import annotations

import json
import os
import pty

import pytest

from acmgproxy.log_levels import LEVEL_VARIABLE
from acmgproxy.worker_log import WorkerLog


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_lines_have_the_form_of_the_gateways_log(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = WorkerLog(3, writing)
    log.note("warning", "overloaded", pressure=0.97)
    log.note("info", "no longer overloaded")
    assert repr(log) == "WorkerLog(worker=3, waiting=2)"
    log.flush()
    os.close(writing)
    with open(reading, encoding="utf-8") as stream:
        first, second = map(json.loads, stream)
    assert first.pop("timestamp").endswith("Z")
    assert first == {"worker": 3, "pressure": 0.97, "event": "overloaded", "level": "warning"}
    assert second["level"] == "info"


def test_people_get_text() -> None:
    reading, writing = pty.openpty()
    log = WorkerLog(3, writing)
    log.note("warning", "overloaded", pressure=0.97)
    log.flush()
    text = os.read(reading, 1000).decode()
    assert text.rstrip().endswith("[warning] overloaded worker=3 pressure=0.97")
    os.close(reading)
    os.close(writing)


def test_the_oldest_lines_are_lost_and_long_ones_are_cut(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = WorkerLog(0, writing)
    for number in range(150):
        log.note("info", f"line {number}")
    log.note("info", "x" * 10_000)
    assert repr(log) == "WorkerLog(worker=0, waiting=100)"
    log.flush()
    os.close(writing)
    with open(reading, "rb") as stream:
        lines = stream.readlines()
    assert json.loads(lines[0])["event"] == "line 51"
    assert len(lines[-1]) == 4096


def test_nobody_to_read_is_no_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    log = WorkerLog(0, writing)
    log.note("info", "lost")
    log.flush()
    os.close(writing)


def test_lines_below_the_threshold_are_not_noted(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pipe
    monkeypatch.setenv(LEVEL_VARIABLE, "warning")
    log = WorkerLog(0, writing)
    log.note("info", "first")
    log.threshold.level = "info"
    log.note("info", "second")
    log.note("debug", "third")
    log.flush()
    assert json.loads(os.read(reading, 1000))["event"] == "second"
    os.close(reading)
    os.close(writing)
