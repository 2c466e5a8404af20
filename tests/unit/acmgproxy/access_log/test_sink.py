# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from acmgproxy.access_log import sink as sink_module
from acmgproxy.access_log.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    waiting = threading.Event()
    while not holds():
        assert time.monotonic() < deadline
        waiting.wait(0.005)


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    sink = Sink.open("-")
    sink.put("a line\n")
    sink.close()
    assert capfd.readouterr().out == "a line\n"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        Sink.open(str(tmp_path))


def test_all_lines_are_written_whole_and_in_order() -> None:
    reader, writer = os.pipe()
    sink = Sink(writer)
    for number in range(1000):
        sink.put(f"{number}\n")
    sink.close()
    with os.fdopen(reader) as pipe:
        assert [int(line) for line in pipe] == list(range(1000))
    assert sink.dropped == 0


def test_lines_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_GATHER_S", 60.0)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    sink = Sink(writer)
    sink.put("one\n")
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    sink.put("two\n")
    sink.close()
    assert os.read(reader, 100) == b"one\ntwo\n"
    os.close(reader)


def test_a_sink_that_does_not_keep_up_costs_lines_and_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_MAX_WAITING", 10)
    reader, writer = os.pipe()
    sink = Sink(writer)
    line = "x" * 1000 + "\n"
    for _ in range(2000):
        sink.put(line)
    assert sink.dropped > 0
    assert len(sink._lines) <= 10
    assert f"dropped={sink.dropped}" in repr(sink)
    os.set_blocking(reader, False)
    sink._stopping.set()
    read = 0
    while sink._thread.is_alive() or read % len(line):
        try:
            read += len(os.read(reader, 1 << 20))
        except BlockingIOError:
            sink._thread.join(timeout=0.01)
    sink.close()
    os.close(reader)


def test_a_sink_that_is_gone_costs_lines_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink = Sink(writer)
    sink.put("one\n")
    sink.put("two\n")
    sink.close()
    assert sink.dropped == 2


class TestRotation:
    @pytest.fixture
    def path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(sink_module, "_GATHER_S", 0.0)
        return tmp_path / "log"

    def test_a_renamed_file_is_left_for_a_new_one(self, path: Path) -> None:
        sink = Sink.open(str(path))
        sink.put("old\n")
        wait_until(lambda: path.read_text() == "old\n")
        rotated = path.rename(path.with_suffix(".1"))
        sink.put("new\n")
        wait_until(lambda: path.exists() and path.read_text() == "new\n")
        sink.close()
        assert (rotated.read_text(), path.read_text()) == ("old\n", "new\n")

    def test_a_file_that_was_replaced_is_followed(self, path: Path) -> None:
        sink = Sink.open(str(path))
        path.rename(path.with_suffix(".1"))
        path.write_text("from somebody else\n")
        sink.put("new\n")
        sink.close()
        assert path.read_text() == "from somebody else\nnew\n"

    def test_where_no_new_one_can_be_made_the_old_one_goes_on(self, path: Path) -> None:
        sink = Sink.open(str(path))
        rotated = path.rename(path.with_suffix(".1"))
        path.mkdir()
        sink.put("still here\n")
        sink.close()
        assert rotated.read_text() == "still here\n"

    def test_a_name_that_cannot_be_looked_up_changes_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = Sink.open(str(path))
        monkeypatch.setattr(sink, "_path", "x" * 10_000)
        sink.put("one\n")
        sink.close()
        assert path.read_text() == "one\n"
