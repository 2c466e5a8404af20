# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import Any

import pytest

from acmgproxy.controller.events import MAX_NOTE, REPEAT_AFTER_S, Announcement, EventWriter, announcement
from discovery.kube import ApiError
from tests.unit.controller.objects import make_service


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("", "captured", "Captured"),
        ("pending: x", "captured", "Captured"),
        ("captured", "captured; gateway gw-1 does not listen", None),
        ("captured", None, "Released"),
        ("pending: x", None, None),
        ("", "pending: x", "CapturePending"),
        ("pending: x", "pending: y", None),
        ("captured", "refused: x", "CaptureRefused"),
        ("refused: x", "refused: y", "CaptureRefused"),
        ("refused: x", "refused: x", None),
        ("captured", "direct: x", "FailedOpen"),
    ],
)
def test_an_event_is_made_when_something_happened(before: str, after: str | None, reason: str | None) -> None:
    found = announcement(before, after)
    assert (found.reason if found is not None else None) == reason


class Recorder:
    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.fails = False

    async def create(self, _path: str, body: Any) -> None:
        self.bodies.append(body)
        if self.fails:
            raise ApiError(500, "InternalError", "sick")


async def test_events_are_not_repeated_for_a_while_and_lost_ones_are_counted() -> None:
    recorder: Any = Recorder()
    now, lost = [0.0], [0]

    def failed() -> None:
        lost[0] += 1

    events = EventWriter(recorder, "i" * 200, clock=lambda: now[0], failed=failed)
    running = asyncio.create_task(events.run())
    said = Announcement("Warning", "CaptureRefused", "ä" * MAX_NOTE)
    for at in (0.0, 1.0, 1.0 + REPEAT_AFTER_S, 1.0 + REPEAT_AFTER_S):
        now[0] = at
        recorder.fails = at > 1.0
        events.say(make_service(), said)
        async with asyncio.timeout(5):
            while events.queued:
                await asyncio.sleep(0)
    running.cancel()
    assert len(recorder.bodies) == 2
    assert lost == [1]
    assert len(recorder.bodies[0]["note"].encode()) == MAX_NOTE
    assert len(recorder.bodies[0]["reportingInstance"]) == 128
    assert recorder.bodies[0]["regarding"]["name"] == "hello"
