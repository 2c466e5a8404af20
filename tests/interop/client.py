# SPDX-License-Identifier: Apache-2.0
"""A client on a bare socket: sends exactly the bytes it is given and reads answers one by one."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.upstream import Address

__all__ = ["Answer", "RawClient"]

_TIMEOUT_S = 20.0
_BLOCK = 256 * 1024


@dataclass(slots=True, kw_only=True)
class Answer:
    """A final answer, with the statuses of the interim ones before it."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)


class RawClient:
    """One connection."""

    def __init__(self, address: Address) -> None:
        self.sock = socket.create_connection(address, timeout=_TIMEOUT_S)
        self._reader = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def head(self) -> Answer:
        """Read the next head, whatever its status."""
        line = self._reader.readline().decode("latin-1")
        assert line, "the connection ended instead of an answer"
        version, status, *_ = line.split(" ", 2)
        headers = {}
        while (line := self._reader.readline().decode("latin-1")) != "\r\n":
            assert line.endswith("\r\n"), f"the connection ended within a head: {line!r}"
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Answer(version=version, status=int(status), headers=headers)

    def answer(self, method: str = "GET") -> Answer:
        """Read interim answers and the final one with its body."""
        interim = []
        while (answer := self.head()).status < 200:
            interim.append(answer.status)
        answer.interim = interim
        if method != "HEAD" and answer.status not in {204, 304}:
            answer.body = b"".join(self._body(answer.headers))
        return answer

    def stream(self) -> Iterator[bytes]:
        """Read the head of a 200 and yield its body as it comes."""
        answer = self.head()
        assert answer.status == 200, answer
        return self._body(answer.headers)

    def is_closed(self) -> bool:
        """Wait for the next byte or the end of the connection, and say whether it was the end."""
        try:
            return not self._reader.read(1)
        except ConnectionResetError:
            return True

    def _body(self, headers: dict[str, str]) -> Iterator[bytes]:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._reader.readline(), 16):
                yield self._exactly(size)
                assert self._reader.readline() == b"\r\n"
            assert self._reader.readline() == b"\r\n"
        elif "content-length" in headers:
            left = int(headers["content-length"])
            while left:
                data = self._exactly(min(left, _BLOCK))
                left -= len(data)
                yield data
        else:
            yield self._reader.read()

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        assert len(data) == size, f"the connection ended after {len(data)} of {size} bytes"
        return data
