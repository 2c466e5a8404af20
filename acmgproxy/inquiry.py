# SPDX-License-Identifier: Apache-2.0
"""Questions to all workers whose answers come one by one, or never: who has been asked, who has answered what.

A worker that is dead or does not answer in time holds nobody up: the others' answers count.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Inquiries"]

T = TypeVar("T")


class _Inquiry(Generic[T]):
    """One question."""

    def __init__(self) -> None:
        self.waiting: set[int] = set()
        self.answers: dict[int, T] = {}
        self.done = asyncio.Event()

    def leave(self, worker: int) -> None:
        """Wait for this worker no longer."""
        self.waiting.discard(worker)
        if not self.waiting:
            self.done.set()


class Inquiries(Generic[T]):
    """Questions of one kind, numbered from 1."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, _Inquiry[T]] = {}

    def __repr__(self) -> str:
        return f"<Inquiries last={self._last} open={len(self._open)}>"

    async def ask(self, workers: Iterable[int], send: Callable[[int, int], bool], timeout_s: float) -> dict[int, T]:
        """Ask, and return what is answered in time, by worker.

        Args:
            workers: their numbers.
            send: asks a worker the question of a number; False when there is nobody to ask.
            timeout_s: how long to wait.
        """
        self._last += 1
        number = self._last
        inquiry = self._open[number] = _Inquiry[T]()
        try:
            inquiry.waiting.update(worker for worker in workers if send(worker, number))
            if inquiry.waiting:
                async with asyncio.timeout(timeout_s):
                    await inquiry.done.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[number]
        return inquiry.answers

    def on_answer(self, worker: int, number: int, answer: T) -> None:
        """Take a worker's answer; one to a question that nobody waits for any more is dropped."""
        inquiry = self._open.get(number)
        if inquiry is not None:
            inquiry.answers[worker] = answer
            inquiry.leave(worker)

    def on_exit(self, worker: int) -> None:
        """The worker is gone and answers nothing more."""
        for inquiry in self._open.values():
            inquiry.leave(worker)
