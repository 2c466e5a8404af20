# SPDX-License-Identifier: Apache-2.0
"""Server processes that belong to a run: pinned to CPUs, logging to a file, gone when the run ends.

Each daemon leads its own session, so that Ctrl-C reaches only the benchmark, which then stops them in order; should the benchmark
itself be killed, the kernel terminates them (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from bench.net import Address

__all__ = ["Daemon", "DaemonError", "die_with_parent"]

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel terminate this process when the one that started it dies; called in the child before it executes."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class DaemonError(RuntimeError):
    """A server process ended or did not get ready; the message holds the end of its log."""


class Daemon:
    """One running server process (and its children)."""

    def __init__(self, argv: Sequence[str | Path], *, directory: Path, cpus: Collection[int]) -> None:
        self.argv = [str(argument) for argument in argv]
        self.log = directory / "log"

        def prepare() -> None:
            if cpus:
                os.sched_setaffinity(0, cpus)
            die_with_parent()

        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
            )

    def __repr__(self) -> str:
        return f"<Daemon {self.argv[0]} pid={self.pid} returncode={self._process.poll()}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the first process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the first process runs."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Terminate the process; kill what is left of its group."""
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def error(self, problem: str) -> DaemonError:
        """Return an error that names the command and shows the end of its log."""
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return DaemonError(f"{' '.join(self.argv)}: {problem}\n{tail}")

    def wait_log(self, text: str, *, timeout_s: float = 20.0) -> str:
        """Return the first log line that holds `text`.

        Raises:
            DaemonError: the process ended, or the line did not come in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.log.read_text(errors="replace").splitlines():
                if text in line:
                    return line
            self._pause()
        raise self.error(f"no log line with {text!r} within {timeout_s} s")

    def wait_listening(self, address: Address, *, timeout_s: float = 20.0) -> None:
        """Wait until somebody listens at `address`; no request is sent.

        Raises:
            DaemonError: the process ended, or nobody did in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(2)
                if probe.connect_ex(address) == 0:
                    return
            self._pause()
        raise self.error(f"nobody listens at {address[0]}:{address[1]} after {timeout_s} s")

    def wait_answer(self, address: Address, *, path: str, body: bytes, timeout_s: float = 20.0) -> None:
        """Wait until GET `path` is answered by 200 and `body`.

        Raises:
            DaemonError: the process ended, or there was no such answer in time.
        """
        deadline = time.monotonic() + timeout_s
        seen = "nothing"
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(*address, timeout=2)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                got = answer.read()
                if answer.status == http.HTTPStatus.OK and got == body:
                    return
                seen = f"{answer.status} {got[:80]!r}"
            except (OSError, http.client.HTTPException) as exc:
                seen = repr(exc)
            finally:
                connection.close()
            self._pause()
        raise self.error(f"GET {path} at {address[0]}:{address[1]} gave {seen} for {timeout_s} s")

    def _pause(self) -> None:
        try:
            code = self._process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            return
        raise self.error(f"ended with code {code}")
