# SPDX-License-Identifier: Apache-2.0
"""Requests that end workers: which they are, and when one is not served any more.

Clients repeat a request that got no answer, so one that crashes a worker takes all of them down in turn. A worker that dies of a
fault or of a hang while it works on a request head makes that head a suspect; a second death with the same head within
`REMEMBER_S` puts it into quarantine, in all workers, for `QUARANTINE_S`. One death alone may be chance, and a worker that is
killed from outside (SIGKILL: the kernel short of memory, an operator) says nothing about the request.

Two heads are the same when they differ at most in what is new with every request: ids, trace contexts, dates. After quarantine
all is forgotten, so a request that is still deadly costs two workers an hour, and a wrong verdict mends itself. Nothing survives
a restart of the gateway. What is remembered is bounded: of too many suspects the oldest is forgotten, of too many in quarantine
the one that leaves first.
"""

from __future__ import annotations

import hashlib
import signal
from typing import NamedTuple

__all__ = ["QUARANTINE_S", "REMEMBER_S", "Death", "Quarantine", "describe_head", "fingerprint", "is_fault"]

QUARANTINE_S = 3600.0
REMEMBER_S = 3600.0
"""Long against the time in which clients and retries repeat a request, short against that in which a repaired version comes."""

DEATHS = 2
MAX_SUSPECTS = 256
MAX_QUARANTINED = 64

_FAULTS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})

_CHANGING = frozenset({
    b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context", b"x-ot-span-context", b"traceparent",
    b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-forwarded-for", b"date",
    b"x-envoy-attempt-count", b"x-envoy-expected-rq-timeout-ms",
})  # fmt: skip
"""Fields that a client or a proxy before us writes anew when a request is repeated."""


class Death(NamedTuple):
    """What is known of the request that a worker died of."""

    fingerprint: bytes
    pids: tuple[int, ...]
    is_quarantined: bool


class Quarantine:
    """Counts deaths by request head. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._suspects: dict[bytes, list[tuple[float, int]]] = {}
        self._until: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"<Quarantine suspects={len(self._suspects)} quarantined={len(self._until)}>"

    def __len__(self) -> int:
        return len(self._until)

    @property
    def heads(self) -> list[bytes]:
        """Fingerprints of the heads that are not served."""
        return sorted(self._until)

    def on_death(self, head: bytes, pid: int, now: float) -> Death:
        """Note that a worker died while it worked on `head`."""
        key = fingerprint(head)
        deaths = [death for death in self._suspects.pop(key, []) if now - death[0] < REMEMBER_S]
        deaths.append((now, pid))
        pids = tuple(one for _, one in deaths)
        if len(deaths) < DEATHS:
            self._suspects[key] = deaths
            if len(self._suspects) > MAX_SUSPECTS:
                del self._suspects[next(iter(self._suspects))]
            return Death(key, pids, is_quarantined=False)
        self._until.pop(key, None)
        self._until[key] = now + QUARANTINE_S
        if len(self._until) > MAX_QUARANTINED:
            del self._until[next(iter(self._until))]
        return Death(key, pids, is_quarantined=True)

    def expire(self, now: float) -> bool:
        """Let heads go whose time is over; return whether there were any."""
        over = [key for key, until in self._until.items() if until <= now]
        for key in over:
            del self._until[key]
        return bool(over)


def is_fault(returncode: int) -> bool:
    """Whether a process that ended so died of itself: by a fault, or by an exception that nobody caught."""
    return returncode > 0 or -returncode in _FAULTS


def fingerprint(head: bytes) -> bytes:
    """Return what is the same whenever this request is repeated."""
    lines = (line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() not in _CHANGING)
    return hashlib.blake2b(b"\r\n".join(lines), digest_size=16).digest()


def describe_head(head: bytes) -> dict[str, str]:
    """Return what may be said in a log of a head nobody has judged: method, path without query, host; no other field."""
    request_line, *fields = head.split(b"\r\n")
    method, _, rest = request_line.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    host = next((value for name, _, value in (field.partition(b":") for field in fields) if name.lower() == b"host"), b"")
    words = {"method": method, "path": path, "host": host.strip()}
    return {name: value[:256].decode("ascii", "backslashreplace") for name, value in words.items()}
