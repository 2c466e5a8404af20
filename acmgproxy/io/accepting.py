# SPDX-License-Identifier: Apache-2.0
"""The sockets a worker accepts from, and how it stops for a while without losing anybody.

The loop accepts in C, as fast as connections come, and offers no way to hold it. So it is given a duplicate of each socket:
closing the duplicate ends the accepting, while the socket itself lives on and the kernel goes on queueing connections (up to the
backlog); with a fresh duplicate they are accepted. Pausing needs no descriptor and frees some, so it works when none is left. If
it ever comes too late, libuv closes what it cannot take (it holds a descriptor in reserve for that) and does not spin.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from acmgproxy.sockets import BACKLOG

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from routing.table import CompiledListener

__all__ = ["Accepting", "Listening"]

_AT_ONCE = 100
"""Sockets taken up again in one turn of the loop; each takes about 16 us."""


class Listening:
    """A socket that is accepted from.

    Attributes:
        compiled: the table's listener.
        authority: Host for requests that need not have one (HTTP/1.0).
        port: port of the socket.
        server: what accepts, None while paused.
    """

    __slots__ = ("authority", "compiled", "port", "server", "sock")

    def __init__(self, compiled: CompiledListener, name: str, sock: socket.socket) -> None:
        self.compiled = compiled
        self.authority = name.encode()
        self.sock = sock
        self.port: int = sock.getsockname()[1]
        self.server: asyncio.AbstractServer | None = None

    def __repr__(self) -> str:
        return f"Listening({self.authority.decode()}, port={self.port}, {'accepting' if self.server else 'paused'})"


class Accepting:
    """All sockets of a worker.

    Args:
        loop: accepts.
        make_protocol: makes the protocol of a connection.

    Attributes:
        paused: nothing is accepted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make_protocol: Callable[[Listening], asyncio.Protocol]) -> None:
        self.paused = False
        self._loop = loop
        self._make_protocol = make_protocol
        self._all: dict[tuple[str, str, int, int | None], Listening] = {}
        self._closed: set[Listening] = set()
        self._opening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Accepting(sockets={len(self._all)}, closed={len(self._closed)}, paused={self.paused})"

    def __len__(self) -> int:
        return len(self._all)

    async def add(self, compiled: CompiledListener, name: str, sock: socket.socket, member: int | None = None) -> None:
        """Accept from a listening socket, now or after the pause.

        Args:
            compiled: the table's listener.
            name: its name.
            sock: owned from here on.
            member: the worker whose socket it is, None for this one: several may be bound to the same address.

        Raises:
            OSError: that is not possible.
        """
        address, port = sock.getsockname()[:2]
        listening = Listening(compiled, name, sock)
        if self.paused:
            self._closed.add(listening)
        else:
            listening.server = await self._serve(listening)
        self._all[name, address, port, member] = listening

    def remove(self, name: str, address: str, port: int, member: int | None = None) -> Listening | None:
        """Close a socket and return what was accepted from; connections that are open live on."""
        listening = self._all.pop((name, address, port, member), None)
        if listening is not None:
            self._closed.discard(listening)
            self._close(listening)
            listening.sock.close()
        return listening

    def pause(self) -> None:
        """Leave new connections in the kernel's queues."""
        if not self.paused:
            self.paused = True
            for listening in self._all.values():
                self._close(listening)
            self._closed.update(self._all.values())

    def resume(self) -> None:
        """Accept again, first what has queued up. Call again later: where descriptors are short, it may not succeed at once."""
        self.paused = False
        if self._closed and self._opening is None:
            self._opening = self._loop.create_task(self._open_closed())

    async def _open_closed(self) -> None:
        try:
            for number, listening in enumerate(list(self._closed), 1):
                if not self._is_wanted(listening):
                    continue
                server = await self._serve(listening)
                if not self._is_wanted(listening):  # any more
                    server.close()
                    continue
                self._closed.discard(listening)
                listening.server = server
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        except OSError:
            return  # no descriptor
        finally:
            self._opening = None

    def _is_wanted(self, listening: Listening) -> bool:
        return not self.paused and listening in self._closed

    async def _serve(self, listening: Listening) -> asyncio.AbstractServer:
        sock = listening.sock.dup()
        try:
            return await self._loop.create_server(lambda: self._make_protocol(listening), sock=sock, backlog=BACKLOG)
        except BaseException:
            sock.close()
            raise

    @staticmethod
    def _close(listening: Listening) -> None:
        server, listening.server = listening.server, None
        if server is not None:
            server.close()
