# SPDX-License-Identifier: Apache-2.0
"""Facts about the black box: what is noted can be read by others, whole or not at all; stacks come behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from acmgproxy.black_box import NOTE_BYTES, ROUTE_BYTES, STACK_SIGNAL, BlackBox, Note, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
def box() -> Iterator[BlackBox]:
    box = BlackBox()
    yield box
    box.close()


def test_a_request_is_noted_with_its_route_and_taken_back(box: BlackBox) -> None:
    recorder = Recorder(box.fd)
    assert box.note() is None
    recorder.routed("early")
    assert box.note() is None, "there is nothing to add to"
    recorder.begin(b"listener", _HEAD)
    assert box.note() == Note("listener", _HEAD, "")
    recorder.routed("default/rules/first")
    assert box.note() == Note("listener", _HEAD, "default/rules/first")
    assert repr(recorder) == f"Recorder(fd={box.fd}, routed)"
    recorder.begin(b"listener", b"A\r\n\r\n")
    assert box.note() == Note("listener", b"A\r\n\r\n", ""), "nothing is left of the one before"
    recorder.end()
    assert box.note() is None
    assert repr(box) == f"<BlackBox fd={box.fd}>"


def test_what_is_too_long_is_left_out(box: BlackBox) -> None:
    recorder = Recorder(box.fd)
    recorder.begin(b"", b"x" * (NOTE_BYTES - ROUTE_BYTES - 1))
    assert box.note() is None
    recorder.begin(b"", b"x" * (NOTE_BYTES - ROUTE_BYTES - 6) + b"\r\n\r\n")
    recorder.routed("r" * NOTE_BYTES)
    note = box.note()
    assert note is not None
    assert (len(note.head), len(note.route)) == (NOTE_BYTES - ROUTE_BYTES - 2, ROUTE_BYTES - 1)


_PROGRAM = """
import os, signal, sys
from acmgproxy.black_box import Recorder
recorder = Recorder(int(sys.argv[1]))
recorder.record_stacks()
def culprit():
    os.kill(os.getpid(), int(sys.argv[2]))
recorder.begin(b"l", b"GET / HTTP/1.1\\r\\n\\r\\n")
culprit()
"""


@pytest.mark.parametrize(("number", "returncode"), [(signal.SIGSEGV, -signal.SIGSEGV), (STACK_SIGNAL, 0)])
def test_stacks_and_note_outlive_the_process(box: BlackBox, number: int, returncode: int) -> None:
    program = [sys.executable, "-c", _PROGRAM, str(box.fd), str(int(number))]
    assert subprocess.run(program, pass_fds=[box.fd], check=False, timeout=60).returncode == returncode
    assert any("in culprit" in line for line in box.stacks())
    assert box.note() == Note("l", b"GET / HTTP/1.1\r\n\r\n", "")
    assert os.fstat(box.fd).st_size > NOTE_BYTES
