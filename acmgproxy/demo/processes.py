# SPDX-License-Identifier: Apache-2.0
"""Child processes of the demo: start, watch, kill, and leave none behind.

Children get a session of their own, so that Ctrl-C on the terminal reaches the demo alone, which then stops them in order. What
they print goes to one file each; a child that ends when it should not is reported with the last lines of its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

__all__ = ["Child", "Children", "ProcessError", "wait_until"]

STOP_TIMEOUT_S = 10.0
"""Patience after SIGTERM before SIGKILL: the gateway drains first, which takes no time without requests."""

_POLL_S = 0.02
_LOG_LINES = 15


class ProcessError(Exception):
    """A child did not do what it should; the message holds the end of its log."""


class Child:
    """One child process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} returncode={self._process.returncode}>"

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to say goodbye."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL when that takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            ProcessError: it has.
        """
        if not self.is_running:
            msg = f"{self.name} ended with code {self._process.returncode}\n{self.log_tail()}"
            raise ProcessError(msg)

    def log_tail(self) -> str:
        """Return the last lines it printed."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


class Children:
    """All children; leaving the block stops whichever still run, the youngest first.

    Args:
        log_directory: where their output goes.
    """

    def __init__(self, log_directory: Path) -> None:
        self._log_directory = log_directory
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Shielded: a second Ctrl-C must not leave processes behind.
        await asyncio.shield(self._stop_all())

    async def start(self, name: str, *command: str) -> Child:
        """Start `command`. Its output is appended to the file of that name, so a second life continues the first one's log."""
        log = self._log_directory / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    async def _stop_all(self) -> None:
        for child in reversed(self._children):
            if child.is_running:
                await child.stop()


async def wait_until(condition: Callable[[], Awaitable[bool]], *, child: Child, what: str, timeout_s: float) -> None:
    """Wait until `condition` holds, as long as `child` lives.

    Raises:
        ProcessError: it ended, or the time is over.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                child.check()
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        msg = f"{child.name} was not {what} after {timeout_s:g} s\n{child.log_tail()}"
        raise ProcessError(msg) from error
