# SPDX-License-Identifier: Apache-2.0
"""The pods: HTTP servers on their own loopback addresses that note what they receive and answer as the case says.

All of them live in one event loop. Every answer carries the number of the call in `x-call`, so that whoever gets an answer finds
what the pod received. A PROXY protocol preamble (version 1 or 2) is understood wherever it comes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tests.cases.scene import PORTS, Key, text_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from tests.cases.model import Behaviour
    from tests.cases.scene import Pod, Scene

__all__ = ["CALL_HEADER", "Call", "Pods", "Script", "read_body", "read_head"]

CALL_HEADER = "x-call"

T = TypeVar("T")

_PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_BLOCK = 64 * 1024


class Call(msgspec.Struct, kw_only=True):
    """A request as a pod received it. Header names in lower case."""

    number: int
    pod: Key
    port: int
    connection: int
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str
    proxy_protocol: dict[str, str] | None = None
    sni: str | None = None

    def values(self, name: str) -> list[str]:
        """Return the values of all lines of a header."""
        return [value for key, value in self.headers if key == name]


class _Turn:
    """The answers of one Behaviour, in order."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._taken = 0

    def next(self) -> tuple[int, float, bool, list[tuple[str, str]]]:
        """Return status, delay in seconds, whether to break off, and headers of the next answer."""
        said, number = self._behaviour, self._taken
        self._taken += 1

        headers = [
            (name, text_of(entry))
            for name, value in said.headers.items()
            for entry in (value if isinstance(value, list) else [value])
        ]
        return _at(said.status, number), _at(said.delay_ms, number) / 1000, _at(said.reset, number), headers


class Script:
    """What pods do in one case, and what they received in it.

    Args:
        scene: the pods.
        responses: behaviours by the name of a pod or Service. A pod's own comes before that of a Service.
    """

    def __init__(self, scene: Scene, responses: Mapping[str, Behaviour]) -> None:
        self.calls: list[Call] = []
        self.changed = asyncio.Condition()
        self._turns: dict[Key, _Turn] = {}
        for name, behaviour in responses.items():
            turn = _Turn(behaviour)
            pod = scene.pod_named(name)
            members = scene.members(name)
            if not members:
                raise KeyError(f"setup.upstream_response names {name}, which is neither a pod nor a Service")
            for key in members:
                if pod is not None or key not in self._turns:
                    self._turns[key] = turn

    def turn(self, key: Key) -> tuple[int, float, bool, list[tuple[str, str]]]:
        """Return what a pod answers next."""
        turn = self._turns.get(key)
        return turn.next() if turn is not None else (200, 0.0, False, [])


class Pods:
    """The servers of a world.

    Attributes:
        script: what they do now.
    """

    def __init__(self) -> None:
        self.script: Script | None = None
        self._servers: dict[tuple[Key, int], tuple[asyncio.Server, bool]] = {}
        self._local: dict[Key, asyncio.Server] = {}
        self._connections = 0
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def play(self, scene: Scene, script: Script, tls: Mapping[Key, ssl.SSLContext]) -> None:
        """Have exactly the pods of a scene listen, save the silent ones, and do what the script says."""
        self.script = script
        wanted = {(pod.key, port): pod for pod in scene.pods.values() if pod.key not in scene.silent for port in PORTS.values()}
        for key, (server, is_tls) in list(self._servers.items()):
            if key not in wanted or is_tls or key[0] in tls:
                server.close()
                del self._servers[key]
        for key, pod in wanted.items():
            if key not in self._servers:
                context = tls.get(key[0])
                self._servers[key] = await self._listen(pod, key[1], context), context is not None

    async def play_on_localhost(self, scene: Scene, names: Iterable[str]) -> dict[str, int]:
        """Have pods listen on 127.0.0.1 as well, where a name leads, and return their ports."""
        while self._local:
            self._local.popitem()[1].close()
        ports: dict[str, int] = {}
        for name in names:
            pod = scene.pod_named(name)
            if pod is None:
                raise KeyError(f"setup.localhost names a pod {name} that is not there")
            self._local[pod.key] = server = await self._listen(pod, 0, None, address="127.0.0.1")
            ports[name] = server.sockets[0].getsockname()[1]
        return ports

    async def close(self) -> None:
        """Close everything."""
        for server in (*(server for server, _ in self._servers.values()), *self._local.values()):
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, pod: Pod, port: int, context: ssl.SSLContext | None, *, address: str = "") -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._connections += 1
            try:
                with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                    await self._serve(pod, port, self._connections, reader, writer)
            finally:
                writer.close()

        return await asyncio.start_server(connected, address or pod.address, port, backlog=1024, ssl=context)

    async def _serve(
        self, pod: Pod, port: int, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        proxy_protocol, first = await _preamble(reader)
        while True:
            line, headers = await read_head(reader, first)
            first = b""
            method, path, version = line.split(" ")
            self._calls += 1
            tls = writer.get_extra_info("ssl_object")
            call = Call(
                number=self._calls,
                pod=pod.key,
                port=port,
                connection=connection,
                method=method,
                path=path,
                headers=tuple(headers),
                body=(await read_body(reader, headers, until_end=False)).decode("latin-1"),
                proxy_protocol=proxy_protocol,
                sni=getattr(tls, "asked_name", None),
            )
            script = self.script
            assert script is not None
            async with script.changed:
                script.calls.append(call)
                script.changed.notify_all()
            status, delay_s, is_reset, extra = script.turn(pod.key)
            if delay_s:
                await asyncio.sleep(delay_s)
            if is_reset:
                return
            writer.write(_answer(pod, call, status, extra))
            await writer.drain()
            if version == "HTTP/1.0" or "close" in ",".join(call.values("connection")).lower():
                return


async def read_head(reader: asyncio.StreamReader, first: bytes = b"") -> tuple[str, list[tuple[str, str]]]:
    """Read the first line and the headers, names in lower case."""
    data = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = data[:-4].split("\r\n")
    return line, [(name.lower(), value.strip()) for name, _, value in (field.partition(":") for field in rest)]


async def read_body(reader: asyncio.StreamReader, headers: Iterable[tuple[str, str]], *, until_end: bool) -> bytes:
    """Read a body; without any framing it is all until the end of the connection, or nothing."""
    fields = dict(headers)
    if fields.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        while size := int((await reader.readline()).partition(b";")[0], 16):
            chunks.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while (await reader.readline()).strip():
            pass
        return b"".join(chunks)
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    return await reader.read(-1) if until_end else b""


def _at(value: T | list[T], number: int) -> T:
    return value[min(number, len(value) - 1)] if isinstance(value, list) else value


def _answer(pod: Pod, call: Call, status: int, extra: list[tuple[str, str]]) -> bytes:
    seen: dict[str, Any] = {
        "pod": pod.name,
        "namespace": pod.namespace,
        "labels": dict(pod.labels),
        "port": call.port,
        "method": call.method,
        "path": call.path,
        "headers": [list(field) for field in call.headers],
    }
    body = (json.dumps(seen) + "\n").encode()
    lines = [f"HTTP/1.1 {status} Echo", f"{CALL_HEADER}: {call.number}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in extra]
    is_bare = status in {204, 304}
    if not is_bare:
        lines.append(f"content-length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if is_bare or call.method == "HEAD" else head + body


async def _preamble(reader: asyncio.StreamReader) -> tuple[dict[str, str] | None, bytes]:
    """Read a PROXY preamble if there is one; also return what was read beyond it."""
    first = await reader.readexactly(6)
    if first == b"PROXY ":
        family, *rest = (await reader.readuntil(b"\r\n")).decode("ascii").split()
        source, destination, source_port, port = rest if family.startswith("TCP") else ("", "", "0", "0")
        return {"version": "1", "source": source, "destination": destination, "source_port": source_port, "port": port}, b""
    if first != _PROXY_V2[:6]:
        return None, first
    rest_of_head = await reader.readexactly(10)
    command, family_code, size = struct.unpack("!BBH", rest_of_head[6:])
    block = await reader.readexactly(size)
    if command != 0x21 or family_code != 0x11:
        return {"version": "2", "source": "", "destination": "", "source_port": "0", "port": "0"}, b""
    source_at, destination_at, source_number, number = struct.unpack("!4s4sHH", block[:12])
    return {
        "version": "2",
        "source": socket.inet_ntoa(source_at),
        "destination": socket.inet_ntoa(destination_at),
        "source_port": str(source_number),
        "port": str(number),
    }, b""
