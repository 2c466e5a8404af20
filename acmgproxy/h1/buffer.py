# SPDX-License-Identifier: Apache-2.0
"""Collects the bytes of a head that comes in several pieces.

Nearly every head arrives whole; then this class is not used. When one does not, the bytes so far are shown to llhttp as they
come, so that a head that can never become valid is refused at once and not when a timer ends, and the verdict is the same however
the bytes were cut.
"""

from __future__ import annotations

import re  # noqa: TID251 - our own fixed, linear patterns; users' expressions only ever run in RE2
from typing import TYPE_CHECKING

import httptools

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.request import LLHTTP_METHODS

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits

__all__ = ["END_OF_HEAD", "HeadBuffer"]

END_OF_HEAD = b"\r\n\r\n"
_LINE_START = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})(?:\Z| )(?:[!-~]+ HTTP/1\.([2-9]))?")


class _Silent:
    """A callback object without callbacks."""


class HeadBuffer:
    """The beginning of a head.

    Args:
        parser: httptools.HttpRequestParser or HttpResponseParser.
        too_large: status for a head over the limit.
        limits: bounds.
        skip_blank: pass over one empty line before the head (RFC 9112 section 2.2, requests only).
    """

    __slots__ = ("_bytes", "_early", "_limits", "_skip_blank", "_too_large")

    def __init__(self, parser: type, too_large: int, limits: Limits, *, skip_blank: bool = False) -> None:
        self._bytes = bytearray()
        self._skip_blank = skip_blank
        self._early = parser(_Silent())
        self._limits = limits
        self._too_large = too_large

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"HeadBuffer({len(self._bytes)} bytes)"

    def add(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take more bytes.

        Returns:
            (head, rest) once the head is complete, None before.

        Raises:
            HeadError: the head is over the limit or cannot become valid.
        """
        searched = max(0, len(self._bytes) - len(END_OF_HEAD) + 1)
        self._bytes += data
        if self._skip_blank and len(self._bytes) > 1:
            self._skip_blank = False
            if self._bytes.startswith(b"\r\n"):
                del self._bytes[:2]
                searched = 0
        end = self._bytes.find(END_OF_HEAD, searched)
        if end >= 0:
            end += len(END_OF_HEAD)
            if end > self._limits.max_head_bytes:
                raise HeadError(self._too_large, "head too large")
            return bytes(self._bytes[:end]), bytes(self._bytes[end:])
        if len(self._bytes) > self._limits.max_head_bytes:
            raise HeadError(self._too_large, "head too large")
        self._look_early(data)
        return None

    def _look_early(self, data: bytes) -> None:
        try:
            self._early.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            # for llhttp a head has ended (CONNECT without a version) that has no empty line: none of HTTP/1.1
            raise HeadError(502 if self._too_large == 502 else 400, "head without a version") from error
        except httptools.HttpParserError as error:
            if self._too_large == 502:
                raise HeadError(502, str(error)) from error
            line = _LINE_START.match(self._bytes)
            if line is None or (line[1] in LLHTTP_METHODS and not line[2]):
                raise HeadError(400, str(error)) from error
            # a legal method or version that llhttp does not know: judged with the whole head, or by the timer
            self._early = _Unjudged()


class _Unjudged:
    """Stands in for a parser that cannot judge this head."""

    def feed_data(self, data: bytes) -> None:
        """Accept anything."""
