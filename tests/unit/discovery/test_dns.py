# SPDX-License-Identifier: Apache-2.0
"""Facts about the resolver, with answers and time made up."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from discovery import dns
from discovery.dns import Resolver, look_up
from discovery.objects import SourceProblem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class World:
    """A resolver whose answers are `answers`, and whose names sleep until `pass_time`."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[str, ...] | Exception] = {}
        self.asked: list[str] = []
        self.slept: dict[str, list[float]] = defaultdict(list)
        self.published: list[tuple[Mapping[str, tuple[str, ...]], tuple[SourceProblem, ...]]] = []
        self._news = asyncio.Event()
        self._sleepers: list[asyncio.Future[None]] = []
        self.draw = 1.0
        self.resolver = Resolver(self._publish, ask=self._ask, sleep=self._sleep, draw=lambda: self.draw)

    def _publish(self, addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...]) -> None:
        self.published.append((addresses, problems))
        self._news.set()

    async def _ask(self, name: str) -> tuple[str, ...]:
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.slept[self.asked[-1]].append(seconds)
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def news(self) -> tuple[Mapping[str, tuple[str, ...]], tuple[SourceProblem, ...]]:
        await asyncio.wait_for(self._news.wait(), 5)
        self._news.clear()
        return self.published[-1]

    async def pass_time(self) -> None:
        """Let everybody wake up, ask, and go to sleep again."""
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.resolver.close()


async def test_names_are_looked_up_and_published_together(world: World) -> None:
    world.answers = {"a.test": ("10.0.0.1",), "b.test": ("10.0.0.2", "10.0.0.3")}
    world.resolver.watch(frozenset(world.answers))
    assert await world.news() == (world.answers, ())
    assert len(world.published) == 1
    assert repr(world.resolver) == "<Resolver 2 names, 2 with addresses, 0 failing>"


async def test_the_interval_grows_while_nothing_changes_and_starts_anew_with_a_change(world: World) -> None:
    world.answers = {"a.test": ("10.0.0.1",)}
    world.resolver.watch(frozenset(world.answers))
    await world.news()
    for _ in range(4):
        await world.pass_time()
    world.answers = {"a.test": ("10.0.0.2",)}
    await world.pass_time()
    assert world.slept["a.test"] == [5, 10, 20, 30, 30, 5]
    assert await world.news() == (world.answers, ())
    world.draw = 0.0
    await world.pass_time()
    assert world.slept["a.test"][-1] == 5.0  # half of ten


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "no answer in time"),
        (UnicodeError("label too long"), "label too long"),
    ],
)
async def test_a_name_that_fails_keeps_its_addresses_and_is_reported(world: World, error: Exception, reason: str) -> None:
    world.answers = {"a.test": ("10.0.0.1",)}
    world.resolver.watch(frozenset(world.answers))
    await world.news()
    world.answers = {"a.test": error}
    await world.pass_time()
    problem = SourceProblem(origin="DNS", name="a.test", reason=f"cannot be looked up: {reason}")
    assert await world.news() == ({"a.test": ("10.0.0.1",)}, (problem,))
    await world.pass_time()
    assert world.slept["a.test"][-1] == 5
    world.answers = {"a.test": ("10.0.0.1",)}
    await world.pass_time()
    assert await world.news() == (world.answers, ())
    assert len(world.published) == 3  # the second failure was no news


async def test_names_that_are_no_longer_wanted_are_forgotten(world: World) -> None:
    world.answers = {"a.test": ("10.0.0.1",), "b.test": OSError("broken"), "c.test": ("10.0.0.3",)}
    world.resolver.watch(frozenset(world.answers))
    await world.news()
    world.resolver.watch(frozenset({"c.test"}))
    assert await world.news() == ({"c.test": ("10.0.0.3",)}, ())
    asked = len(world.asked)
    await world.pass_time()
    assert world.asked[asked:] == ["c.test"]


async def test_a_name_that_is_dropped_before_its_first_answer_is_no_news(world: World) -> None:
    world.answers = {"a.test": ("10.0.0.1",)}
    world.resolver.watch(frozenset(world.answers))
    world.resolver.watch(frozenset())
    await world.pass_time()
    assert world.published == []


async def test_nothing_is_published_after_the_end(world: World) -> None:
    world.answers = {"a.test": ("10.0.0.1",)}
    world.resolver.watch(frozenset(world.answers))
    await world.pass_time()
    await world.resolver.close()
    await world.resolver.close()
    assert world.published == []


async def test_only_so_many_lookups_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "CONCURRENT", 2)
    running: set[str] = set()
    most = 0
    gate = asyncio.Event()

    async def ask(name: str) -> tuple[str, ...]:
        nonlocal most
        running.add(name)
        most = max(most, len(running))
        await gate.wait()
        running.discard(name)
        return ("10.0.0.1",)

    done = asyncio.Event()

    def publish(addresses: Mapping[str, tuple[str, ...]], problems: tuple[SourceProblem, ...]) -> None:
        if len(addresses) == 5:
            done.set()

    resolver = Resolver(publish, ask=ask)
    resolver.watch(frozenset(f"{number}.test" for number in range(5)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert most == 2
    gate.set()
    await asyncio.wait_for(done.wait(), 5)
    assert most == 2
    await resolver.close()


async def test_the_systems_resolver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await look_up("localhost") in {("127.0.0.1",), ("::1",)}
    assert await look_up("127.0.0.7") == ("127.0.0.7",)
    with pytest.raises((OSError, UnicodeError)):
        await look_up("a" * 64)

    async def both(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(0, 0, 0, "", (address, 0)) for address in ("fd00::1", "10.0.0.2", "10.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert await look_up("x.test") == ("10.0.0.1", "10.0.0.2")
