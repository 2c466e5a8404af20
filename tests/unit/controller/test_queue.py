# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

from acmgproxy.controller.queue import WorkQueue
from acmgproxy.controller.rate import RateLimit

A, B, C = (("default", name) for name in "abc")


async def taken(queue: WorkQueue) -> tuple[str, str]:
    async with asyncio.timeout(5):
        return await queue.take()


async def test_a_key_comes_once_however_often_it_was_named_and_urgent_ones_come_first() -> None:
    queue = WorkQueue()
    queue.add([A, B, A])
    queue.add([C, B], urgent=True)
    assert [await taken(queue) for _ in range(3)] == [C, B, A]
    assert len(queue) == 0
    assert not queue.is_idle


async def test_a_key_that_is_named_while_it_is_worked_on_comes_again_afterwards() -> None:
    queue = WorkQueue()
    queue.add([A])
    assert await taken(queue) == A
    queue.add([A])
    assert len(queue) == 0
    queue.done(A)
    assert await taken(queue) == A
    queue.done(A)
    assert queue.is_idle


async def test_the_earlier_of_two_times_counts() -> None:
    queue = WorkQueue()
    queue.add_later(A, 3600)
    queue.add_later(A, 0.001)
    queue.add_later(A, 3600)
    assert await taken(queue) == A


async def test_failures_wait_longer_each_time_until_one_succeeds() -> None:
    queue = WorkQueue()
    loop = asyncio.get_running_loop()

    def delay() -> float:
        queue.add_failed(A)
        found = queue._timers.pop(A)
        found.cancel()
        return round(found.when() - loop.time(), 2)

    assert [delay() for _ in range(3)] == [0.05, 0.1, 0.2]
    assert [delay() for _ in range(20)][-1] == 30.0
    queue.done(A)
    assert delay() == 0.05
    queue.clear()


async def test_writes_wait_for_their_turn() -> None:
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    rate = RateLimit(lambda: now[0], per_s=10.0, burst=2, sleep=sleep)
    for _ in range(4):
        await rate.take()
    assert slept == [0.1, 0.2]
    now[0] = 100.0
    await rate.take()
    assert slept == [0.1, 0.2]
