# SPDX-License-Identifier: Apache-2.0
"""What a row of the conformance tables is."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Row", "no", "ok", "waits"]


class Row(NamedTuple):
    """One clause of an RFC, and bytes that show whether it is kept.

    Attributes:
        id: name of the row.
        clause: RFC and section; after a "+", what this proxy decides where the RFC leaves a choice.
        data: what the peer sends.
        status: with which it is refused, 0 when it is not.
        forwarded: exactly what goes on; None when `data` itself does.
        complete: the message ends within `data`.
        method: of the request, in the table of responses.
        minor: minor version of the client, in the table of responses.
    """

    id: str
    clause: str
    data: bytes
    status: int = 0
    forwarded: bytes | None = None
    complete: bool = True
    method: bytes = b"GET"
    minor: int = 1

    @property
    def expected(self) -> bytes:
        """What goes on."""
        return self.data if self.forwarded is None else self.forwarded


def ok(name: str, clause: str, data: bytes, forwarded: bytes | None = None, *, method: bytes = b"GET", minor: int = 1) -> Row:
    """Bytes that are accepted."""
    return Row(name, clause, data, forwarded=forwarded, method=method, minor=minor)


def no(name: str, clause: str, data: bytes, status: int = 400, *, method: bytes = b"GET") -> Row:
    """Bytes that are refused; of a response always with 502."""
    return Row(name, clause, data, status=status, complete=False, method=method)


def waits(name: str, clause: str, data: bytes, forwarded: bytes | None = None) -> Row:
    """Bytes that are accepted, with more to come: no end of the message may be made up."""
    return Row(name, clause, data, forwarded=forwarded, complete=False)
