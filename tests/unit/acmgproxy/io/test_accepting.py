# SPDX-License-Identifier: Apache-2.0
"""Facts about accepting and its pauses, on the loop that is used: what waits is served later, and nothing spins meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, cast

import pytest
import uvloop

from acmgproxy.io.accepting import Accepting, Listening
from acmgproxy.sockets import open_group
from tests.unit.acmgproxy.control import free_address, wait_for

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from routing.table import CompiledListener

COMPILED = cast("CompiledListener", object())


class Greeter(asyncio.Protocol):
    """Says that it was accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.WriteTransport", transport).write(b"hello")
        transport.close()


class Site:
    """An Accepting with sockets at addresses of their own."""

    def __init__(self) -> None:
        self.accepting = Accepting(asyncio.get_running_loop(), lambda _: Greeter())
        self.places: list[tuple[str, int]] = []

    async def listen(self, name: str = "web") -> tuple[str, int]:
        address, port = free_address()
        group = open_group(address, port, 1)
        await self.accepting.add(COMPILED, name, group.members[0])
        self.places.append((address, port))
        return address, port

    def close(self) -> None:
        for address, port in self.places:
            self.accepting.remove("web", address, port)
            with pytest.raises(ConnectionRefusedError):  # no duplicate is left
                connect((address, port))


async def greeting(sock: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, 100)


def connect(place: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(place)
    sock.setblocking(False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        return bool(sock.getpeername())
    return False


def run(scene: Coroutine[None, None, None]) -> None:
    uvloop.run(asyncio.wait_for(scene, 20.0))


def test_a_pause_loses_nobody() -> None:
    async def scene() -> None:
        site = Site()
        places = [await site.listen() for _ in range(3)]
        site.accepting.pause()
        site.accepting.pause()
        assert repr(site.accepting) == "Accepting(sockets=3, closed=3, paused=True)"
        clients = [connect(place) for place in places for _ in range(20)]
        answers = [asyncio.create_task(greeting(client)) for client in clients]
        await asyncio.sleep(0.02)
        assert not any(answer.done() for answer in answers)
        site.accepting.resume()
        site.accepting.resume()
        assert await asyncio.gather(*answers) == [b"hello"] * 60
        assert repr(site.accepting) == "Accepting(sockets=3, closed=0, paused=False)"
        for client in clients:
            client.close()
        site.close()

    run(scene())


def test_a_pause_costs_no_processor_time() -> None:
    async def scene() -> None:
        site = Site()
        place = await site.listen()
        site.accepting.pause()
        client = connect(place)
        used = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - used < 0.1
        client.close()
        site.close()

    run(scene())


def test_the_queue_stays_as_long_as_it_was_opened() -> None:
    async def scene() -> None:
        site = Site()
        place = await site.listen()
        site.accepting.pause()
        clients = [socket.socket() for _ in range(300)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(place)
        await wait_for(lambda: all(map(_is_connected, clients)), "all connected, though asyncio's backlog would be 100")
        for client in clients:
            client.close()
        site.close()

    run(scene())


def test_a_socket_that_comes_during_a_pause_waits_for_its_end() -> None:
    async def scene() -> None:
        site = Site()
        site.accepting.pause()
        client = connect(await site.listen())
        answer = asyncio.create_task(greeting(client))
        await asyncio.sleep(0.01)
        assert not answer.done()
        site.accepting.resume()
        assert await answer == b"hello"
        client.close()
        site.close()

    run(scene())


def test_a_socket_that_goes_during_a_pause_is_gone() -> None:
    async def scene() -> None:
        site = Site()
        await site.listen()
        site.accepting.pause()
        site.close()
        site.close()
        site.accepting.resume()
        assert len(site.accepting) == 0

    run(scene())


def test_changing_ones_mind_at_once() -> None:
    async def scene() -> None:
        site = Site()
        places = [await site.listen() for _ in range(3)]
        site.accepting.pause()
        site.accepting.resume()
        site.accepting.pause()
        await asyncio.sleep(0)
        assert repr(site.accepting) == "Accepting(sockets=3, closed=3, paused=True)"
        site.accepting.resume()
        client = connect(places[0])
        assert await greeting(client) == b"hello"
        client.close()
        site.close()

    run(scene())


def test_without_a_descriptor_it_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        site = Site()
        place = await site.listen()
        site.accepting.pause()
        with monkeypatch.context() as patch:

            def none_left(_: socket.socket) -> socket.socket:
                raise OSError(24, "Too many open files")

            patch.setattr(socket.socket, "dup", none_left)
            site.accepting.resume()
            await wait_for(lambda: site.accepting._opening is None)
        assert repr(site.accepting) == "Accepting(sockets=1, closed=1, paused=False)"
        client = connect(place)
        site.accepting.resume()
        assert await greeting(client) == b"hello"
        client.close()
        site.close()

    run(scene())


def test_a_socket_that_does_not_listen_is_refused_whole() -> None:
    async def scene() -> None:
        site = Site()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match=r"(?i)stream"):
                await site.accepting.add(COMPILED, "web", sock)
        assert len(site.accepting) == 0

    run(scene())


def test_many_are_taken_up_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        monkeypatch.setattr("acmgproxy.io.accepting._AT_ONCE", 2)
        site = Site()
        for _ in range(5):
            await site.listen()
        site.accepting.pause()
        site.accepting.resume()
        await asyncio.sleep(0)
        assert repr(site.accepting) == "Accepting(sockets=5, closed=3, paused=False)"
        await wait_for(lambda: repr(site.accepting) == "Accepting(sockets=5, closed=0, paused=False)")
        site.accepting.pause()
        site.accepting.resume()
        await asyncio.sleep(0)
        site.accepting.pause()
        await wait_for(lambda: site.accepting._opening is None)
        assert repr(site.accepting) == "Accepting(sockets=5, closed=5, paused=True)"
        site.close()

    run(scene())


async def test_a_loop_that_yields_meanwhile() -> None:
    """The loop of the standard library lets others run before it has begun to accept."""
    site = Site()
    place = await site.listen()
    site.accepting.pause()
    site.accepting.resume()
    await asyncio.sleep(0)
    site.accepting.pause()
    await wait_for(lambda: site.accepting._opening is None)
    assert repr(site.accepting) == "Accepting(sockets=1, closed=1, paused=True)"
    site.accepting.resume()
    client = connect(place)
    assert await greeting(client) == b"hello"
    client.close()
    site.close()
    await asyncio.sleep(0)


def test_what_it_says_of_a_socket() -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            listening = Listening(COMPILED, "web", sock)
            assert repr(listening) == f"Listening(web, port={sock.getsockname()[1]}, paused)"
        with pytest.raises(OSError, match="Bad file descriptor"):
            await Accepting(asyncio.get_running_loop(), lambda _: Greeter()).add(COMPILED, "web", sock)

    run(scene())
