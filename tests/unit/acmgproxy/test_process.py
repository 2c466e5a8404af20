# SPDX-License-Identifier: Apache-2.0
"""Facts about worker processes: real ones."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from acmgproxy.process import WorkerProcess
from tests.unit.acmgproxy.control import wait_for

ECHO = "import os, socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.send(b'%d' % os.getsid(0)); s.recv(1); sys.exit(7)"


async def test_a_process_has_the_socket_and_a_session_of_its_own() -> None:
    ours, theirs = socket.socketpair()
    codes: list[int] = []
    process = WorkerProcess(asyncio.get_running_loop(), (sys.executable, "-c", ECHO), theirs, on_exit=codes.append)
    assert theirs.fileno() == -1
    ours.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(ours, 100) == b"%d" % process.pid
    assert os.getsid(0) != process.pid
    ours.send(b"x")
    await wait_for(lambda: codes)
    assert codes == [7]
    process.kill()
    assert repr(process) == f"<WorkerProcess pid={process.pid} returncode=7>"
    ours.close()


async def test_a_killed_process_is_noticed_and_reaped() -> None:
    ours, theirs = socket.socketpair()
    codes: list[int] = []
    process = WorkerProcess(asyncio.get_running_loop(), (sys.executable, "-c", ECHO), theirs, on_exit=codes.append)
    process.kill()
    await wait_for(lambda: codes)
    assert codes == [-9]
    with pytest.raises(ProcessLookupError):  # no zombie is left
        os.kill(process.pid, 0)
    ours.close()


async def test_a_program_that_does_not_exist_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with pytest.raises(FileNotFoundError):
        WorkerProcess(asyncio.get_running_loop(), ("/nowhere/at/all",), theirs, on_exit=lambda _: None)
    assert theirs.fileno() == -1
    ours.close()
