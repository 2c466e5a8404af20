# SPDX-License-Identifier: Apache-2.0
"""What is noted of a request while it is worked on, and how one in quarantine is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acmgproxy.black_box import BlackBox, Note, Recorder
from acmgproxy.io.exchange import Exchange
from acmgproxy.quarantine import fingerprint
from tests.protocol.world import answer, relayed, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.table import Route
    from tests.protocol.world import World


@pytest.fixture
def box(world: World) -> Iterator[BlackBox]:
    box = BlackBox()
    world.plane.take_notes(Recorder(box.fd))
    yield box
    box.close()


def _notes(box: BlackBox, monkeypatch: pytest.MonkeyPatch) -> list[Note | None]:
    """Read the note of each request from now on, at the time it is sent on."""
    notes: list[Note | None] = []
    forward = Exchange._forward

    def look(exchange: Exchange, route: Route) -> None:
        notes.append(box.note())
        forward(exchange, route)

    monkeypatch.setattr(Exchange, "_forward", look)
    return notes


def test_a_new_head_is_noted_while_it_is_worked_on(world: World, box: BlackBox, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = _notes(box, monkeypatch)
    client = world.client()
    head = request("GET", "/a")
    client.send(head)
    assert box.note() is None, "control is back in the loop"
    world.upstream().feed(answer(body=b"x"))
    assert client.take() == relayed(body=b"x")
    (note,) = notes
    assert note is not None
    assert (note.head, bool(note.listener), bool(note.route)) == (head, True, True)


def test_a_head_that_did_no_harm_is_not_noted_again(world: World, box: BlackBox, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = _notes(box, monkeypatch)
    client = world.client()
    for _ in range(2):
        client.send(request("GET", "/a"))
        world.upstream().feed(answer(body=b"x"))
        client.take()
    assert [note is not None for note in notes] == [True, False]


def test_a_head_that_is_refused_leaves_no_note(world: World, box: BlackBox) -> None:
    world.client().send(b"GET / HTTP/1.1\r\n\r\n")
    assert box.note() is None


def test_a_request_in_quarantine_is_answered_here_and_counted(world: World) -> None:
    client, other = world.client(), world.client(("10.1.0.9", 9))
    head = request("GET", "/deadly")
    client.send(head)
    world.upstream().feed(answer(body=b"x"))
    client.take()
    world.plane.set_quarantine({fingerprint(head)})
    client.send(head)  # the connection remembers it as harmless
    assert client.take().startswith(b"HTTP/1.1 503 ")
    assert world.plane.counters["quarantined_requests"] == 1
    (key,) = [value.key for value in world.plane.stats().series if value.key.status == 503]
    assert key.flags == "LR"
    other.send(request("GET", "/other"))
    world.upstream().feed(answer(body=b"y"))
    assert other.take() == relayed(body=b"y")
