# SPDX-License-Identifier: Apache-2.0
"""The chunked transfer coding (RFC 9112 section 7.1), decoded strictly and encoded afresh.

llhttp's own chunk parser is not used: it gives no bound on extensions and lets malformed ones pass, and its callbacks copy every
piece. The grammar here is exact: `1*HEXDIG *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ) CRLF`, data, CRLF.
Extensions are checked and dropped (section 7.1.1: a recipient must ignore what it does not know), trailers are checked and
dropped (section 7.1.2 allows it), so nothing of the sender's framing travels on.

The decoder is a machine of four states; what each expects next:

    SIZE ── "0" ──▶ TRAILER ── empty line ──▶ done
     │ ▲
     ▼ └───────┐
    DATA ──▶ DATA_END
"""

from __future__ import annotations

import re  # noqa: TID251 - our own fixed, linear patterns; users' expressions only ever run in RE2
from typing import TYPE_CHECKING

from acmgproxy.h1.errors import HeadError

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["LAST_CHUNK", "ChunkedDecoder", "encode_chunk"]

LAST_CHUNK = b"0\r\n\r\n"

_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*)"
)
_SIZE_START = re.compile(rb"[0-9A-Fa-f]{1,15}(?:[ \t;][^\r\n\x00]*)?")
_TRAILER_LINE = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")
_TRAILER_START = re.compile(rb"(?:" + _TOKEN + rb"(?::[\t \x21-\x7e\x80-\xff]*)?)?")


def encode_chunk(data: bytes) -> bytes:
    """Frame one piece of body data. An empty piece would end the body, so it must not be given."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedDecoder:
    """Decodes one chunked body.

    Attributes:
        done: the last chunk and the trailer section have been read.
    """

    __slots__ = ("_extension_bytes", "_left", "_limits", "_line", "_state", "_trailer_bytes", "_trailers", "done")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = _SIZE
        self._line = b""
        self._left = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailers = 0
        self.done = False

    def __repr__(self) -> str:
        return f"ChunkedDecoder({('SIZE', 'DATA', 'DATA_END', 'TRAILER', 'DONE')[self._state]}, left={self._left})"

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Decode what has come.

        Returns:
            The pieces of body data, and what follows the body (only when `done`).

        Raises:
            HeadError: 400 when the coding is violated or a limit is passed. The decoder must not be fed again.
        """
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if self._state == _DATA:
                end = min(size, position + self._left)
                pieces.append(data[position:end])
                self._left -= end - position
                position = end
                if not self._left:
                    self._state = _DATA_END
                continue
            position = self._read_line(data, position)
            if self.done:
                return pieces, data[position:]
        return pieces, b""

    def _read_line(self, data: bytes, position: int) -> int:
        """Take one line (or what there is of it) and act on it. Returns the new position."""
        end = data.find(b"\n", position)
        stop = len(data) if end < 0 else end + 1
        line = self._line + data[position:stop]
        if end < 0:
            self._line = line
            self._check_partial(line)
            return stop
        self._line = b""
        if line[-2:] != b"\r\n":
            raise HeadError(400, "bare LF in a chunked body")
        self._on_line(line[:-2])
        return stop

    def _check_partial(self, line: bytes) -> None:
        """Refuse a line as soon as it cannot become valid, however slowly it comes."""
        text = line[:-1] if line[-1:] == b"\r" else line
        if self._state == _DATA_END:
            if text:
                raise HeadError(400, "chunk data not followed by CRLF")
        elif self._state == _SIZE:
            self._check_size_length(text)
            if not _SIZE_START.fullmatch(text):
                raise HeadError(400, "invalid chunk size")
        else:
            if self._trailer_bytes + len(text) > self._limits.max_trailer_bytes:
                raise HeadError(400, "trailer section too large")
            if not _TRAILER_START.fullmatch(text):
                raise HeadError(400, "invalid trailer field")

    def _check_size_length(self, line: bytes) -> None:
        if len(line) > self._limits.max_chunk_line_bytes:
            raise HeadError(400, "chunk-size line too long")

    def _on_line(self, line: bytes) -> None:
        if self._state == _SIZE:
            self._on_size(line)
        elif self._state == _DATA_END:
            if line:
                raise HeadError(400, "chunk data not followed by CRLF")
            self._state = _SIZE
        elif line:
            self._on_trailer(line)
        else:
            self._state = _DONE
            self.done = True

    def _on_size(self, line: bytes) -> None:
        self._check_size_length(line)
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise HeadError(400, "invalid chunk size or extension")
        self._extension_bytes += len(match[2])
        if self._extension_bytes > self._limits.max_chunk_extension_bytes:
            raise HeadError(400, "chunk extensions too large")
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILER

    def _on_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) + 2
        self._trailers += 1
        if self._trailer_bytes > self._limits.max_trailer_bytes or self._trailers > self._limits.max_trailers:
            raise HeadError(400, "trailer section too large")
        if not _TRAILER_LINE.fullmatch(line):
            raise HeadError(400, "invalid trailer field")
