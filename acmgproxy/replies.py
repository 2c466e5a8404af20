# SPDX-License-Identifier: Apache-2.0
"""Answers that the gateway gives in an upstream's place: one table from kind of failure to status, flag and body.

Statuses, flags and bodies are Envoy's, because people's dashboards, alerts and runbooks know them (reference: Envoy response
flags and local replies).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Failure", "LocalReply", "join_flags"]

_UPSTREAM = b"upstream connect error or disconnect/reset before headers. reset reason: "


_ORDER = (
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH", "DPE",
    "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO", "DR",
)  # fmt: skip
"""All of Envoy's response flags, in the order in which it names several (stream_info.h, CoreResponseFlag)."""


def join_flags(*flags: str) -> str:
    """Return flags as one text; "-" and "" are none."""
    found = {flag for text in flags for flag in text.split(",")} - {"-", ""}
    return ",".join(sorted(found, key=_ORDER.index)) or "-"


class LocalReply(NamedTuple):
    """What the client gets. `detail` is Envoy's response code detail, for the access log."""

    status: int
    flag: str
    body: bytes
    detail: str


class Failure(Enum):
    """Why a request could not be answered by an upstream."""

    NO_ROUTE = LocalReply(404, "NR", b"", "route_not_found")
    NO_CLUSTER = LocalReply(503, "NC", b"", "cluster_not_found")
    NO_HEALTHY_UPSTREAM = LocalReply(503, "UH", b"no healthy upstream", "no_healthy_upstream")
    CONNECTION_FAILURE = LocalReply(
        503, "UF", _UPSTREAM + b"connection failure", "upstream_reset_before_response_started{connection_failure}"
    )
    CONNECTION_TERMINATION = LocalReply(
        503, "UC", _UPSTREAM + b"connection termination", "upstream_reset_before_response_started{connection_termination}"
    )
    OVERFLOW = LocalReply(503, "UO", _UPSTREAM + b"overflow", "upstream_reset_before_response_started{overflow}")
    UPSTREAM_TIMEOUT = LocalReply(504, "UT", b"upstream request timeout", "upstream_response_timeout")
    UPSTREAM_PER_TRY_TIMEOUT = LocalReply(504, "UT", b"upstream request timeout", "upstream_per_try_timeout")
    UPSTREAM_PROTOCOL_ERROR = LocalReply(
        502, "UPE", _UPSTREAM + b"protocol error", "upstream_reset_before_response_started{protocol_error}"
    )
    STREAM_IDLE_TIMEOUT = LocalReply(504, "SI", b"stream timeout", "stream_idle_timeout")
    REQUEST_IDLE_TIMEOUT = LocalReply(408, "SI", b"stream timeout", "stream_idle_timeout")
    REQUEST_TIMEOUT = LocalReply(408, "SI", b"", "request_header_timeout")
    QUARANTINED = LocalReply(503, "LR", b"request quarantined", "request_quarantined")
    OVERLOADED = LocalReply(503, "OM", b"envoy overloaded", "overload")
    PROTOCOL_ERROR = LocalReply(400, "DPE", b"", "http1.codec_error")
