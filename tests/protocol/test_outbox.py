# SPDX-License-Identifier: Apache-2.0
"""Facts about writing at the end of the turn. That nothing else changes by it is shown by all tests here, which run both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest

from acmgproxy.io import outbox as module
from acmgproxy.io.outbox import Outbox
from tests.protocol.world import World, answer, request

if TYPE_CHECKING:
    from collections.abc import Callable


class Turn:
    """An outbox, the transports it writes to, and a loop whose turns are made by hand."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []
        self.soon: list[Callable[[], None]] = []
        self.outbox = Outbox(self.soon.append)

    def transport(self, name: str, *, is_closing: bool = False) -> mock.Mock:
        transport = mock.Mock()
        transport.write = lambda data: self.written.append((name, data))
        transport.is_closing.return_value = is_closing
        return transport

    def next(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    turn = Turn()
    for _ in range(3):
        turn.outbox.send(turn.transport("first"), b"")
    assert len(turn.written) == 3
    turn.written.clear()
    return turn


def test_what_comes_in_one_turn_is_written_at_its_end_in_order(turn: Turn) -> None:
    a, b = turn.transport("a"), turn.transport("b")
    for transport, data in ((a, b"1"), (b, b"2"), (a, b"3")):
        turn.outbox.send(transport, data)
    assert turn.written == []
    assert len(turn.soon) == 1
    turn.next()
    assert turn.written == [("a", b"1"), ("b", b"2"), ("a", b"3")]


def test_one_that_is_alone_is_followed_by_some_that_do_not_wait(turn: Turn) -> None:
    turn.outbox.send(turn.transport("a"), b"1")
    turn.next()
    for number in range(3):
        turn.outbox.send(turn.transport("b"), b"%d" % number)
    assert len(turn.written) == 4
    turn.outbox.send(turn.transport("c"), b"waits")
    assert len(turn.written) == 4
    assert repr(turn.outbox) == "Outbox(waiting=1, at_once=0)"


def test_a_long_message_does_not_wait_and_comes_behind_what_waits(turn: Turn) -> None:
    a = turn.transport("a")
    turn.outbox.send(a, b"short")
    turn.outbox.send(a, b"x" * (module.MOST_BYTES + 1))
    assert [len(data) for _, data in turn.written] == [5, module.MOST_BYTES + 1]


def test_what_was_flushed_before_is_not_written_twice(turn: Turn) -> None:
    turn.outbox.send(turn.transport("a"), b"1")
    turn.outbox.flush()
    turn.next()
    assert turn.written == [("a", b"1")]


def test_a_connection_that_has_ended_meanwhile_gets_nothing(turn: Turn) -> None:
    turn.outbox.send(turn.transport("a", is_closing=True), b"1")
    turn.outbox.send(turn.transport("b"), b"2")
    turn.next()
    assert turn.written == [("b", b"2")]


def test_an_answer_that_waits_is_written_before_its_connection_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 0)
    world = World()
    client = world.client().send(request())
    world.plane.draining = True
    upstream = world.upstream()
    upstream.arriving.append(answer(body=b"last"))
    upstream._deliver()
    assert client.take().endswith(b"last")
    world.loop.settle()
    assert client.ended
    world.check()


def test_answers_to_requests_in_a_row_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 0)
    world = World()
    client = world.client().send(request("GET", "/1") + request("GET", "/2") + b"nonsense\r\n\r\n")
    upstream = world.upstream()
    for body in (b"one", b"two"):
        upstream.arriving.append(answer(body=body))
        upstream._deliver()
        world.loop.settle()
    got = client.take()
    assert got.index(b"one") < got.index(b"two") < got.index(b"HTTP/1.1 400 ")
    world.check()
