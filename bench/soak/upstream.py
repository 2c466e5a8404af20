# SPDX-License-Identifier: Apache-2.0
"""The pods of a soak: one server at all loopback addresses of one port, well- and ill-behaved as the path says.

    /ok              200, twenty bytes
    /sum             200 and length and CRC of the body, read whole
    /down/N          200 and N bytes (`pattern`)
    /slow/SECONDS    200 after a while
    /status/N        that status
    /close           ends the connection instead of an answer
    /cut             ten of a hundred bytes, and the end
    /cut-chunked     a chunk, and the end
    /garbage         something that is no HTTP
    /flaky/close, /flaky/503     so at even addresses, /ok at odd ones

WebSockets are echoed at a port of their own. `python -m bench.soak.upstream PORT ECHO_PORT`; an echo port of 0 is none.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import uvloop
from websockets.asyncio.server import ServerConnection, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["pattern"]

_BLOCK = 64 * 1024
_PATTERN = bytes(range(251)) * 262  # a prime period: a lost or doubled block does not go unnoticed


def pattern(size: int) -> bytes:
    """Return the first bytes of the endless pattern that big bodies are."""
    return (_PATTERN * (size // len(_PATTERN) + 1))[:size]


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> AsyncIterator[bytes]:
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    left = int(fields.get("content-length", "0"))
    while left:
        data = await reader.readexactly(min(left, _BLOCK))
        left -= len(data)
        yield data


def _answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    is_even = int(writer.get_extra_info("sockname")[0].rpartition(".")[2]) % 2 == 0
    with suppress(OSError, asyncio.IncompleteReadError):
        while line := await reader.readline():
            path = line.split(b" ")[1].decode()
            fields = {}
            while (field := await reader.readline()) not in {b"\r\n", b""}:
                name, _, value = field.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip().lower()
            length = crc = 0
            async for data in _body(reader, fields):
                length, crc = length + len(data), zlib.crc32(data, crc)
            if path.startswith("/flaky/"):
                path = path.removeprefix("/flaky").replace("/503", "/status/503") if is_even else "/ok"
            answer, stays = await _behave(path, length, crc)
            for start in range(0, len(answer), 16 * _BLOCK):
                writer.write(answer[start : start + 16 * _BLOCK])
                await writer.drain()
            if not stays:
                break
    writer.close()


async def _behave(path: str, length: int, crc: int) -> tuple[bytes, bool]:
    """Return what to send, and whether the connection stays."""
    _, what, *rest = path.split("/")
    match what:
        case "sum":
            return _answer(f"{length} {crc}".encode()), True
        case "down":
            return _answer(pattern(int(rest[0]))), True
        case "slow":
            await asyncio.sleep(float(rest[0]))
        case "status":
            return _answer(b"as you wish", int(rest[0])), True
        case "close":
            return b"", False
        case "cut":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789", False
        case "cut-chunked":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", False
        case "garbage":
            return b"this is no HTTP\r\n\r\n", False
        case _:
            pass
    return _answer(b"twenty bytes of text"), True


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def _run(port: int, echo_port: int) -> None:
    async with await asyncio.start_server(_serve, "0.0.0.0", port, backlog=1024) as server:  # noqa: S104 - all of 127.0.0.0/8
        if echo_port:
            _ = await serve(_echo, "0.0.0.0", echo_port, max_size=None, compression=None)  # noqa: S104
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1]), int(sys.argv[2])))
