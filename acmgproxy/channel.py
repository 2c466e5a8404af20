# SPDX-License-Identifier: Apache-2.0
"""Messages over a Unix stream socket, with file descriptors.

A frame is a length (4 bytes, little endian), the number of descriptors that belong to it (1 byte), and the message in
MessagePack. The kernel hands descriptors over not later than the first byte they were sent with, so a reader that queues them in
the order of their arrival always has a frame's descriptors when it has the frame.

Neither side ever blocks: what the socket does not take now waits in `Channel` and is sent when the socket is writable. The owner
bounds that queue by not sending more while too much is unanswered (`acmgproxy.slot`). Descriptors that have to wait are
duplicated, for the owner may close its own in the meantime.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Channel", "encode_frame"]

M = TypeVar("M")

_HEADER = struct.Struct("<IB")
_READ_BYTES = 256 * 1024
_MAX_FDS = 16
"""Descriptors taken per read. One frame carries at most one, and a read ends where the next descriptors begin."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: object, fds: int = 0) -> bytes:
    """Encode a message that `fds` descriptors go with."""
    payload = _encoder.encode(message)
    return _HEADER.pack(len(payload), fds) + payload


class Channel(Generic[M]):
    """One end of the connection between the supervisor and a worker.

    Args:
        loop: event loop that serves the socket.
        sock: connected Unix stream socket; the channel owns it from here on.
        decoder: decoder of what the other end sends.
        on_message: called with each message and its descriptors, which the callee then owns.
        on_close: called once when the other end is gone or sends what cannot be read. Not called by `close`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[M],
        *,
        on_message: Callable[[M, list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._decoder = decoder
        self._on_message = on_message
        self._on_close = on_close
        self._incoming = bytearray()
        self._incoming_fds: deque[int] = deque()
        self._outgoing: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._is_closed = False
        self._flushed: asyncio.Future[None] | None = None
        sock.setblocking(False)
        loop.add_reader(sock, self._read)

    def __repr__(self) -> str:
        return f"<Channel {'closed' if self._is_closed else 'open'} waiting={len(self._outgoing)}>"

    @property
    def is_idle(self) -> bool:
        """Whether everything sent so far has been taken by the socket."""
        return not self._outgoing

    def send(self, frame: bytes, fds: Sequence[int] = ()) -> None:
        """Send a frame made by `encode_frame`, now or as soon as the socket takes it. Ignored once closed."""
        if self._is_closed:
            return
        rest: memoryview = memoryview(frame)
        if not self._outgoing:
            sent = self._try_send(rest, tuple(fds))
            if sent is None or sent == len(rest):
                return
            if sent:
                rest, fds = rest[sent:], ()
            self._loop.add_writer(self._sock, self._write)
        self._outgoing.append((rest, tuple(os.dup(fd) for fd in fds)))

    async def flush(self) -> None:
        """Wait until the socket has taken everything sent so far, or is closed."""
        if self._outgoing and not self._is_closed:
            self._flushed = self._flushed or self._loop.create_future()
            await asyncio.shield(self._flushed)

    def close(self) -> None:
        """Close the socket; what still waits is dropped."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for _, fds in self._outgoing:
            _close_all(fds)
        _close_all(self._incoming_fds)
        self._outgoing.clear()
        self._incoming_fds.clear()
        self._wake_flush()

    def _fail(self) -> None:
        if not self._is_closed:
            self.close()
            self._on_close()

    def _try_send(self, data: memoryview, fds: tuple[int, ...]) -> int | None:
        """Send what fits; 0 if nothing does, None if the other end is gone."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            return self._sock.sendmsg([data], ancillary)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._loop.call_soon(self._fail)  # not within a call of the owner
            return None

    def _write(self) -> None:
        while self._outgoing:
            data, fds = self._outgoing[0]
            sent = self._try_send(data, fds)
            if not sent:
                return
            _close_all(fds)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._sock)
        self._wake_flush()

    def _wake_flush(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
        self._flushed = None

    def _read(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._fail()
            return
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._incoming_fds.extend(fds)
        if not data or flags & socket.MSG_CTRUNC:  # the end, or descriptors were lost (out of descriptors)
            self._fail()
            return
        self._incoming += data
        self._deliver()

    def _deliver(self) -> None:
        position = 0
        while not self._is_closed and len(self._incoming) - position >= _HEADER.size:
            length, fd_count = _HEADER.unpack_from(self._incoming, position)
            begin = position + _HEADER.size
            if len(self._incoming) < begin + length:
                break
            position = begin + length
            fds = [self._incoming_fds.popleft() for _ in range(fd_count)]
            try:
                message = self._decoder.decode(self._incoming[begin:position])
            except msgspec.MsgspecError:
                _close_all(fds)
                self._fail()
                return
            self._on_message(message, fds)
        del self._incoming[:position]


def _close_all(fds: Sequence[int] | deque[int]) -> None:
    for fd in fds:
        os.close(fd)
