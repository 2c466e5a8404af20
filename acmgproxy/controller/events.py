# SPDX-License-Identifier: Apache-2.0
"""Events: tells people about Services that were captured, released, refused or fell back to direct traffic.

An Event is made when the status that is written on a Service changes its kind, so a restart repeats nothing; the same text about
the same Service is not repeated for a while either. Events are good manners, not state: one that cannot be written is counted
and forgotten, and a flood of them loses the rest.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from discovery.kube import EVENTS, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from acmgproxy.controller.objects import Service
    from discovery.kube import KubeClient

__all__ = ["Announcement", "EventWriter", "announcement"]

REPORTER = "acmg.io/controller"
MAX_NOTE = 1024
"""Bytes of an Event's note, by the API's validation."""

REPEAT_AFTER_S = 600.0
MAX_REMEMBERED = 10_000
MAX_QUEUED = 1000


class Announcement(NamedTuple):
    """What an Event says.

    Args:
        type: `Normal`, or `Warning` for what somebody should look at.
        reason: one word.
        note: for people.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def announcement(before: str, after: str | None) -> Announcement | None:
    """Return what a change of a Service's status is worth saying, None for nothing.

    Args:
        before: the status it had, "" for none.
        after: the one it has now.
    """
    word_before, word = (text.partition(":")[0].partition(";")[0] for text in (before, after or ""))
    if before == (after or "") or (word == word_before and word != "refused"):
        return None
    note = (after or "").partition(": ")[2]
    match word:
        case "captured":
            return Announcement("Normal", "Captured", "its ClusterIP leads to the gateways")
        case "refused":
            return Announcement("Warning", "CaptureRefused", note)
        case "direct":
            return Announcement("Warning", "FailedOpen", note)
        case "pending":
            return Announcement("Normal", "CapturePending", note)
        case _:
            return Announcement("Normal", "Released", "its ClusterIP leads to its pods") if word_before == "captured" else None


class EventWriter:
    """Writes Events, one after the other, beside everything else.

    Args:
        client: of the API server.
        identity: of this replica.
        clock: monotonic, in seconds.
        failed: told of each that could not be written.
    """

    def __init__(self, client: KubeClient, identity: str, *, clock: Callable[[], float], failed: Callable[[], None]) -> None:
        self._client = client
        self._identity = identity[:128]
        self._clock = clock
        self._failed = failed
        self._queue: asyncio.Queue[tuple[Service, Announcement]] = asyncio.Queue(MAX_QUEUED)
        self._said: OrderedDict[tuple[str, Announcement], float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<EventWriter queued={self._queue.qsize()}>"

    @property
    def queued(self) -> int:
        """How many have yet to be written."""
        return self._queue.qsize()

    def say(self, service: Service, what: Announcement) -> None:
        """Make an Event about a Service."""
        now, said = self._clock(), (service.meta.uid, what)
        if now - self._said.pop(said, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            self._said[said] = now
            return
        self._said[said] = now
        if len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)
        try:
            self._queue.put_nowait((service, what))
        except asyncio.QueueFull:
            self._failed()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            service, what = await self._queue.get()
            try:
                await self._client.create(EVENTS.path(service.meta.namespace), self._body(service, what))
            except ApiError:
                self._failed()

    def _body(self, service: Service, what: Announcement) -> dict[str, Any]:
        meta = service.meta
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{meta.name}.{secrets.token_hex(8)}", "namespace": meta.namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTER,
            "reportingInstance": self._identity,
            "action": "Capture",
            "type": what.type,
            "reason": what.reason,
            "note": what.note.encode()[:MAX_NOTE].decode(errors="ignore"),
            "regarding": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
        }
