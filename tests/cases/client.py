# SPDX-License-Identifier: Apache-2.0
"""The callers: HTTP/1.1 from a chosen source address, one request at a time on a connection."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from tests.cases.pods import CALL_HEADER, Call, read_body, read_head

__all__ = ["Connection", "Result"]

TIMEOUT_S = 15.0


class Result(msgspec.Struct, kw_only=True):
    """What came of a request. Header names in lower case; status 0 and an error if there was no answer.

    Attributes:
        connection: address and port it came from, as the access log has them.
        call: what the pod that answered received.
        attempt: what a pod received last, whether it answered or not.
        flag: response flags of its line in the access log, once looked up.
    """

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    error: str = ""
    duration_ms: float = 0.0
    connection: str = ""
    call: Call | None = None
    attempt: Call | None = None
    flag: str | None = None

    def values(self, name: str) -> list[str]:
        """Return the values of all lines of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def call_number(self) -> int:
        """Number of the call that was answered, 0 if none was."""
        values = self.values(CALL_HEADER)
        return int(values[0]) if values else 0


class Connection:
    """A connection from one address to another, opened with the first request and again when it was closed.

    Args:
        source: address to come from.
        destination: address and port to connect to.
    """

    def __init__(self, source: str, destination: tuple[str, int]) -> None:
        self._source = source
        self._destination = destination
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None = None) -> Result:
        """Send a request and read its answer."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        data = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
        result = Result()
        started = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._exchange(method, data, result)
        except TimeoutError:
            result.error = f"no complete answer within {TIMEOUT_S:g} s"
        except (OSError, EOFError, ValueError) as error:
            result.error = f"{type(error).__name__}: {error}"
        result.duration_ms = (time.monotonic() - started) * 1000
        if result.error:
            await self.close()
        return result

    async def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, method: str, data: bytes, result: Result) -> None:
        if self._streams is None:
            host, port = self._destination
            self._streams = await asyncio.open_connection(host, port, local_addr=(self._source, 0))
        reader, writer = self._streams
        address, port = writer.get_extra_info("sockname")[:2]
        result.connection = f"{address}:{port}"
        writer.write(data)
        await writer.drain()
        status = 100
        while 100 <= status < 200:
            line, headers = await read_head(reader)
            status = int(line.split(" ")[1])
        result.status, result.headers = status, tuple(headers)
        if method != "HEAD" and status not in {204, 304}:
            result.body = (await read_body(reader, headers, until_end=True)).decode("latin-1")
        if "close" in ",".join(result.values("connection")).lower() or reader.at_eof():
            await self.close()
