# SPDX-License-Identifier: Apache-2.0
"""Which fields may go on, written down a second time: from RFC 9110 section 7.6.1 and docs/http.md, not from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.strict_http import Message

__all__ = ["check_fields"]

_OF_THE_HOP = {
    *[b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer"],
    *[b"upgrade", b"http2-settings"],
}
_WRITTEN_ANEW = {
    *[b"host", b"content-length", b"transfer-encoding", b"expect", b"date", b"server", b"x-request-id"],
    *[b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"],
}

_END_TO_END = {
    *[b"content-type", b"content-encoding", b"authorization", b"cookie", b"set-cookie", b"cache-control", b"x-real-ip"],
}
"""What an answer's Connection cannot make the proxy drop; a request that tries is refused."""
_OF_THE_NEXT_HOP = {(b"connection", b"close"), (b"connection", b"keep-alive")}
"""What the proxy says to its client."""
_UPGRADE = {(b"connection", b"Upgrade"), (b"upgrade", b"websocket")}
"""What it says to the upstream if the client may switch protocols."""


def check_fields(sent: Message, received: Message) -> None:
    """Nothing of the hop goes on, nothing is lost or made up but what the proxy itself writes."""
    listed = sent.options
    written = [field for field in received.fields if not _is_written_anew(field[0])]
    if received.status:
        written = [field for field in written if field not in _OF_THE_NEXT_HOP]
    elif _asks_for_websocket(sent):
        written = [field for field in written if field not in _UPGRADE]
    for name, _ in written:
        assert name not in _OF_THE_HOP, f"{name!r} belongs to the hop before"
        assert name not in listed or name in _END_TO_END, f"{name!r} is listed by Connection"
    kept = [field for field in sent.fields if field in written]
    assert kept == written, f"fields made up or out of order: {written} of {sent.fields}"
    for name, _ in set(sent.fields) - set(written):
        known = name in _OF_THE_HOP or name in listed or _is_written_anew(name)
        assert known or b"_" in name, f"{name!r} was lost"


def _asks_for_websocket(request: Message) -> bool:
    asks = b"upgrade" in request.options and b"websocket" in b",".join(request.values(b"upgrade")).lower()
    return asks and request.method == b"GET" and not request.body and request.minor == 1


def _is_written_anew(name: bytes) -> bool:
    return name in _WRITTEN_ANEW or name.startswith(b"x-envoy-")
