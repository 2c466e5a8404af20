# SPDX-License-Identifier: Apache-2.0
"""Facts about questions to workers."""

from __future__ import annotations

import asyncio

from acmgproxy.inquiry import Inquiries


async def test_answers_are_waited_for() -> None:
    inquiries: Inquiries[str] = Inquiries()
    asked: list[tuple[int, int]] = []

    def send(worker: int, number: int) -> bool:
        asked.append((worker, number))
        return worker != 2

    asking = asyncio.create_task(inquiries.ask([0, 1, 2], send, 60.0))
    await asyncio.sleep(0)
    assert asked == [(0, 1), (1, 1), (2, 1)]
    assert repr(inquiries) == "<Inquiries last=1 open=1>"
    inquiries.on_answer(0, 1, "a")
    inquiries.on_answer(1, 99, "to another question")
    await asyncio.sleep(0)
    assert not asking.done()
    inquiries.on_answer(1, 1, "b")
    assert await asking == {0: "a", 1: "b"}


async def test_a_dead_worker_is_not_waited_for() -> None:
    inquiries: Inquiries[str] = Inquiries()
    asking = asyncio.create_task(inquiries.ask([0, 1], lambda worker, number: True, 60.0))
    await asyncio.sleep(0)
    inquiries.on_exit(1)
    inquiries.on_answer(0, 1, "a")
    assert await asking == {0: "a"}


async def test_a_silent_worker_is_waited_for_no_longer_than_told() -> None:
    inquiries: Inquiries[str] = Inquiries()
    assert await inquiries.ask([0], lambda worker, number: True, 0.0) == {}
    inquiries.on_answer(0, 1, "too late")
    assert await inquiries.ask([], lambda worker, number: True, 60.0) == {}
