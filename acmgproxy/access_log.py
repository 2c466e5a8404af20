# SPDX-License-Identifier: Apache-2.0
"""The access log: one line per request in Istio's default text format.

Lines are made on the event loop (a few microseconds, only when the log is on) and written by a thread, so that a slow disk or a
reader that has stopped cannot stall traffic: when too many lines wait, new ones are dropped and counted.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acmgproxy.h1.errors import HeadError
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.replies import Failure

__all__ = ["AccessLog"]

_MAX_WAITING = 10_000
"""Lines held for a sink that does not keep up: about 4 MB."""


class AccessLog:
    """Formats and writes lines.

    Args:
        fd: file descriptor to write to; lines are written whole, so several workers may share a file opened for appending.

    Attributes:
        dropped: lines lost because the sink did not keep up.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"AccessLog(fd={self._fd}, waiting={len(self._lines)}, dropped={self.dropped})"

    @classmethod
    def open(cls, sink: str) -> AccessLog | None:
        """Open a sink: "off", "-" for standard output, or the path of a file to append to.

        Raises:
            OSError: the file cannot be opened.
        """
        if sink == "off":
            return None
        if sink == "-":
            return cls(os.dup(sys.stdout.fileno()))
        return cls(os.open(sink, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644))

    def write(self, exchange: Exchange, now: float) -> None:
        """Log a finished request.

        Args:
            exchange: the request.
            now: monotonic seconds of its end.
        """
        head, downstream, endpoint = exchange.head, exchange.downstream, exchange.endpoint
        duration_ms = int((now - exchange.started) * 1000)
        service_ms = str(exchange.upstream_time_ms) if exchange.upstream_time_ms >= 0 else "-"
        forwarded = head.forwarded_for.decode("latin-1")
        route = exchange.route.name if exchange.route is not None else ""
        target = _quoted(_text(head.target))
        self._put(
            f'[{_timestamp(time() - (now - exchange.started))}] "{_text(head.method)} {target} HTTP/1.{head.minor}" '
            f'{exchange.status} {exchange.flags} {exchange.detail.replace(" ", "_")} - "{_reason(exchange)}" '
            f"{exchange.received_bytes} {exchange.sent_bytes} {duration_ms} {service_ms} "
            f'"{_quoted(forwarded)}" "{_quoted(_text(head.header(b"user-agent") or b""))}" '
            f'"{_quoted(_text(exchange.request_id or head.request_id))}" "{_quoted(_text(head.authority))}" '
            f'"{f"{endpoint.address}:{endpoint.port}" if endpoint is not None else "-"}" '
            f"{exchange.cluster.name if exchange.cluster is not None else '-'} - "
            f"{downstream.local_address} {downstream.remote_address} - {route or '-'}\n"
        )

    def write_refused(self, downstream: Downstream, error: HeadError, failure: Failure) -> None:
        """Log a request whose head was not acceptable."""
        flag, detail = failure.value.flag, failure.value.detail
        self._put(
            f'[{_timestamp(time())}] "- - HTTP/1.1" {error.status} {flag} {detail} - "{_quoted(error.reason)}" '
            f'0 0 0 - "-" "-" "-" "-" "-" - - {downstream.local_address} {downstream.remote_address} - -\n'
        )

    def close(self) -> None:
        """Write what waits and stop."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=2.0)

    def _put(self, line: str) -> None:
        if len(self._lines) >= _MAX_WAITING:
            self.dropped += 1
            return
        self._lines.append(line.encode("utf-8", "backslashreplace"))
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            batch: list[bytes] = []
            while self._lines:
                batch.append(self._lines.popleft())
                if len(batch) >= 256 or not self._lines:
                    self._write_all(b"".join(batch))
                    batch.clear()
            if self._stopping:
                return

    def _write_all(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            self.dropped += data.count(b"\n")


def _timestamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _quoted(value: str) -> str:
    """Keep a value from ending its quotes; "-" stands for nothing."""
    return value.replace("\\", "\\\\").replace('"', '\\"') or "-"


def _reason(exchange: Exchange) -> str:
    return _quoted(exchange.detail) if exchange.flags.startswith(("UF", "UC", "UPE")) else "-"
