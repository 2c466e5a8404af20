# SPDX-License-Identifier: Apache-2.0
"""A pod's program: answers every request with who it is and what it saw, and leaves as a well-behaved server does.

    python -m tests.e2e.server --name hello-1 --bind 10.244.2.1:8080 [--bind ...]

The answer is JSON: `pod`, `port`, `peer` (the address the connection came from), `forwarded` (X-Forwarded-For), `target`, `id`
(the request's X-Id) and `sum` (CRC-32 of the body). `?slow=0.2` answers that many seconds later. `/ready` is the kubelet's probe.

On SIGTERM it goes on serving, but closes each connection with its next answer and says so; it ends when none is left, or after
`--patience` seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import zlib
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_READ_BYTES = 64 * 1024


class Program:
    """What all connections share.

    Args:
        name: the pod's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_leaving = False
        self.connections = 0
        self.idle = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        self.connections += 1
        self.idle.clear()
        try:
            await _Connection(self, reader, writer).run()
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # the other side's doing, and its client reports it
        finally:
            writer.close()
            self.connections -= 1
            if not self.connections:
                self.idle.set()


class _Connection:
    """One connection: one request after the other."""

    def __init__(self, program: Program, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._program = program
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self._peer = writer.get_extra_info("peername")[0]
        self._port = writer.get_extra_info("sockname")[1]

    async def run(self) -> None:
        while (request := await self._request()) is not None:
            await self._answer(*request)
            if self._http.our_state is h11.MUST_CLOSE:
                return
            self._http.start_next_cycle()

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_BYTES))
        return event

    async def _request(self) -> tuple[h11.Request, bytes] | None:
        request = await self._event()
        if not isinstance(request, h11.Request):
            return None
        body = bytearray()
        while isinstance(data := await self._event(), h11.Data):
            body += data.data
        return request, bytes(body)

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        headers = {name.decode(): value.decode() for name, value in request.headers}
        target = request.target.decode()
        slow = parse_qs(urlsplit(target).query).get("slow")
        if slow:
            await asyncio.sleep(float(slow[0]))
        answer = json.dumps(
            {
                "pod": self._program.name,
                "port": self._port,
                "peer": self._peer,
                "forwarded": headers.get("x-forwarded-for", ""),
                "target": target,
                "id": headers.get("x-id", ""),
                "sum": zlib.crc32(body),
            }
        ).encode()
        fields = [("content-type", "application/json"), ("content-length", str(len(answer)))]
        if self._program.is_leaving:
            fields.append(("connection", "close"))
        # One write: head and body in two would cost the client a delayed acknowledgement.
        self._writer.write(
            (self._http.send(h11.Response(status_code=200, headers=fields)) or b"")
            + (self._http.send(h11.Data(data=answer)) or b"")
            + (self._http.send(h11.EndOfMessage()) or b"")
        )
        await self._writer.drain()


async def _run(name: str, binds: Sequence[tuple[str, int]], patience_s: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    program = Program(name)
    servers = [await asyncio.start_server(program.serve, host, port, backlog=1024) for host, port in binds]
    await stop.wait()
    program.is_leaving = True
    for server in servers:
        server.close()
    if program.connections:
        try:
            await asyncio.wait_for(program.idle.wait(), patience_s)
        except TimeoutError:
            return


def _bind(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.server")
    parser.add_argument("--name", required=True)
    parser.add_argument("--bind", type=_bind, action="append", required=True)
    parser.add_argument("--patience", type=float, default=5.0)
    options = parser.parse_args(argv)
    asyncio.run(_run(options.name, options.bind, options.patience))


if __name__ == "__main__":
    main()
