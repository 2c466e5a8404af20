# SPDX-License-Identifier: Apache-2.0
"""Facts about the channel: whole messages in order, with their descriptors, never blocking."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import msgspec

from acmgproxy.channel import Channel, encode_frame
from tests.unit.acmgproxy.control import wait_for


class End:
    """One end and what it received."""

    def __init__(self, sock: socket.socket, kind: Any = Any) -> None:
        self.received: list[Any] = []
        self.fds: list[int] = []
        self.is_gone = False
        self.channel: Channel[Any] = Channel(
            asyncio.get_running_loop(),
            sock,
            msgspec.msgpack.Decoder(kind),
            on_message=self._on_message,
            on_close=self._on_close,
        )

    def _on_message(self, message: Any, fds: list[int]) -> None:
        self.received.append(message)
        self.fds += fds

    def _on_close(self) -> None:
        self.is_gone = True


def pair() -> tuple[End, End]:
    ours, theirs = socket.socketpair()
    return End(ours), End(theirs)


async def test_messages_of_any_size_arrive_whole_and_in_order() -> None:
    left, right = pair()
    messages = ["a", "b" * 3_000_000, "", "c"]
    for message in messages:
        left.channel.send(encode_frame(message))
    assert not left.channel.is_idle
    assert repr(left.channel) == "<Channel open waiting=3>"
    await left.channel.flush()
    await wait_for(lambda: len(right.received) == 4)
    assert right.received == messages
    await left.channel.flush()
    left.channel.close()
    await wait_for(lambda: right.is_gone)
    assert not left.is_gone


async def test_descriptors_come_with_their_message_even_if_closed_meanwhile() -> None:
    left, right = pair()
    left.channel.send(encode_frame("x" * 2_000_000))
    for number in range(40):
        reading, writing = os.pipe()
        os.write(writing, b"%02d" % number)
        left.channel.send(encode_frame(number, fds=1), [reading])
        os.close(reading)
        os.close(writing)
    await wait_for(lambda: len(right.received) == 41)
    assert right.received[1:] == list(range(40))
    assert [os.read(fd, 9) for fd in right.fds] == [b"%02d" % number for number in range(40)]
    for fd in right.fds:
        os.close(fd)
    left.channel.close()
    right.channel.close()


async def test_a_large_message_with_a_descriptor_hands_it_over_once() -> None:
    left, right = pair()
    reading, writing = os.pipe()
    left.channel.send(encode_frame("y" * 1_000_000, fds=1), [reading])
    await wait_for(lambda: right.received)
    assert len(right.fds) == 1
    for fd in (reading, writing, *right.fds):
        os.close(fd)
    left.channel.close()
    right.channel.close()


async def test_closing_drops_what_waits() -> None:
    left, right = pair()
    reading, writing = os.pipe()
    left.channel.send(encode_frame("x" * 5_000_000))
    left.channel.send(encode_frame("y", fds=1), [reading])
    flushing = asyncio.create_task(left.channel.flush())
    await asyncio.sleep(0)
    left.channel.close()
    left.channel.close()
    await flushing
    left.channel.send(encode_frame("z"))
    assert repr(left.channel) == "<Channel closed waiting=0>"
    await wait_for(lambda: right.is_gone)
    assert not right.received
    os.close(reading)
    os.close(writing)


async def test_sending_to_one_that_is_gone_ends_the_channel() -> None:
    ours, theirs = socket.socketpair()
    left = End(ours)
    theirs.close()
    left.channel.send(encode_frame("a"))
    await wait_for(lambda: left.is_gone)


async def test_the_end_while_messages_wait() -> None:
    ours, theirs = socket.socketpair()
    left = End(ours)
    left.channel.send(encode_frame("x" * 5_000_000))
    theirs.close()
    await wait_for(lambda: left.is_gone)


async def test_what_cannot_be_read_ends_the_channel() -> None:
    ours, theirs = socket.socketpair()
    left, right = End(ours), End(theirs, int)
    reading, writing = os.pipe()
    left.channel.send(encode_frame("no number", fds=1), [reading])
    left.channel.send(encode_frame(1))
    await wait_for(lambda: right.is_gone)
    assert not right.received
    os.close(reading)
    os.close(writing)
    left.channel.close()


async def test_a_reset_ends_the_channel() -> None:
    ours, theirs = socket.socketpair()
    left = End(ours)
    os.set_blocking(theirs.fileno(), False)
    left.channel.send(encode_frame("unread"))
    theirs.close()
    await wait_for(lambda: left.is_gone)


async def test_wakeups_without_data_do_nothing() -> None:
    left, right = pair()
    right.channel._read()
    assert not right.is_gone
    left.channel.close()
    right.channel.close()


async def test_closing_from_within_a_message_stops_delivery() -> None:
    left, right = pair()

    def close_on(message: Any, _: list[int]) -> None:
        right.received.append(message)
        right.channel.close()

    right.channel._on_message = close_on
    left.channel.send(encode_frame(1) + encode_frame(2))
    await wait_for(lambda: right.received)
    assert right.received == [1]
    left.channel.close()
