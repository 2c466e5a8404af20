# SPDX-License-Identifier: Apache-2.0
"""LineSplitter: lines out of bytes that come in any pieces, with a bound on what one line may take. Pure."""

from __future__ import annotations

__all__ = ["EndlessLineError", "LineSplitter"]

GIVE_UP = 4
"""A line that is this many times too long is taken for endless."""


class EndlessLineError(Exception):
    """A line does not end."""


class LineSplitter:
    """Splits a stream into lines. One that is too long is left out and counted, without being kept in memory.

    Args:
        line_bytes: longest line.
    """

    __slots__ = ("_line_bytes", "_parts", "_size", "_skipped", "too_long")

    def __init__(self, line_bytes: int) -> None:
        self._line_bytes = line_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._skipped = 0
        self.too_long = 0

    def __repr__(self) -> str:
        return f"<LineSplitter {self._size} bytes waiting, {self.too_long} lines too long>"

    @property
    def is_within_line(self) -> bool:
        """Whether the stream stopped in the middle of a line."""
        return bool(self._size or self._skipped)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the lines they complete, without line breaks and empty lines.

        Raises:
            EndlessLineError: A line is longer than can be believed.
        """
        first, *others = data.split(b"\n")
        if not others:
            self._keep(first)
            return []
        self._keep(first)
        lines = [self._finished(), *others[:-1]]
        self._keep(others[-1])
        if max(map(len, lines)) > self._line_bytes:
            self.too_long += sum(len(line) > self._line_bytes for line in lines)
            return [line for line in lines if 0 < len(line) <= self._line_bytes]
        return [line for line in lines if line]

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        if self._skipped or self._size + len(part) > self._line_bytes:
            self._skipped += self._size + len(part)
            self._parts, self._size = [], 0
            if self._skipped > GIVE_UP * self._line_bytes:
                raise EndlessLineError(f"a line of more than {self._skipped} bytes")
            return
        self._parts.append(part)
        self._size += len(part)

    def _finished(self) -> bytes:
        line = b"".join(self._parts)
        self.too_long += bool(self._skipped)
        self._parts, self._size, self._skipped = [], 0, 0
        return line
