# SPDX-License-Identifier: Apache-2.0
"""The few lines a worker has to say by itself, in the form of the gateway's own log.

Noting a line costs the event loop a `deque.append`. A thread writes it (see `acmgproxy.watchdog`), so a standard error that
nobody reads cannot stall traffic: then the oldest lines are lost. The structured logger of the supervisor is not loaded, for the
sake of a worker's memory.
"""

from __future__ import annotations

import json
import os
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime

from acmgproxy.log_levels import Threshold

__all__ = ["WorkerLog"]

_MAX_WAITING = 100
_MAX_LINE_BYTES = 4096
"""PIPE_BUF: a line up to this size is not mixed with those of other processes (man 7 pipe)."""


class WorkerLog:
    """Lines of one worker.

    Args:
        worker_id: number of the worker.
        fd: where they go.

    Attributes:
        threshold: which lines are written at all.
    """

    def __init__(self, worker_id: int, fd: int = 2) -> None:
        self._worker_id = worker_id
        self._fd = fd
        self.threshold = Threshold()
        self._lines: deque[dict[str, object]] = deque(maxlen=_MAX_WAITING)

    def __repr__(self) -> str:
        return f"WorkerLog(worker={self._worker_id}, waiting={len(self._lines)})"

    def note(self, level: str, event: str, **fields: object) -> None:
        """Have a line written, if its level is."""
        if not self.threshold.passes(level):
            return
        timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._lines.append({"worker": self._worker_id, **fields, "event": event, "level": level, "timestamp": timestamp})

    def flush(self) -> None:
        """Write what has been noted; may block."""
        while self._lines:
            line = self._lines.popleft()
            text = _for_people(line) if os.isatty(self._fd) else json.dumps(line)
            with suppress(OSError):  # nobody is left to be told
                os.write(self._fd, text.encode("utf-8", "replace")[: _MAX_LINE_BYTES - 1] + b"\n")


def _for_people(line: dict[str, object]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in line.items() if name not in {"event", "level", "timestamp"})
    return f"{str(line['timestamp'])[11:19]} [{line['level']}] {line['event']} {fields}"
