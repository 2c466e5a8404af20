# SPDX-License-Identifier: Apache-2.0
"""A worker process as the supervisor sees it: start, notice its end, end it.

The end is noticed through a pidfd in the event loop, so no signal handler and no thread is involved and the process is reaped the
moment it dies. Workers get a session of their own: a Ctrl-C on the terminal reaches the supervisor alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from acmgproxy.black_box import STACK_SIGNAL

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Sequence

__all__ = ["WORKER_COMMAND", "WorkerProcess"]

WORKER_COMMAND = (sys.executable, "-m", "acmgproxy.worker")
"""Followed by the number of the socketpair's descriptor. A fresh process, not a fork: nothing of the supervisor is inherited."""


class WorkerProcess:
    """One running worker process.

    Args:
        loop: event loop of the supervisor.
        command: program and arguments, to which the descriptor's number is added.
        channel_end: the worker's end of the socketpair; closed here once handed over.
        on_exit: called once with the return code (negative: the signal that killed it).

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        channel_end: socket.socket,
        *,
        on_exit: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._on_exit = on_exit
        with channel_end:
            fd = channel_end.fileno()
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, str(fd)], pass_fds=(fd,), stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._exited)

    def __repr__(self) -> str:
        return f"<WorkerProcess pid={self.pid} returncode={self._process.returncode}>"

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once. Harmless when it has ended already."""
        self._process.kill()

    def dump(self) -> None:
        """Have the process write its stack into its black box. Harmless when it has ended already."""
        self._process.send_signal(STACK_SIGNAL)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._on_exit(self._process.wait())
