# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from acmgproxy.replies import Failure

BEFORE_HEADERS = b"upstream connect error or disconnect/reset before headers. reset reason: "

ENVOY = {
    "NO_ROUTE": (404, "NR", b"", "route_not_found"),
    "NO_CLUSTER": (503, "NC", b"", "cluster_not_found"),
    "NO_HEALTHY_UPSTREAM": (503, "UH", b"no healthy upstream", "no_healthy_upstream"),
    "CONNECTION_FAILURE": (
        503,
        "UF",
        BEFORE_HEADERS + b"connection failure",
        "upstream_reset_before_response_started{connection_failure}",
    ),
    "CONNECTION_TERMINATION": (
        503,
        "UC",
        BEFORE_HEADERS + b"connection termination",
        "upstream_reset_before_response_started{connection_termination}",
    ),
    "OVERFLOW": (503, "UO", BEFORE_HEADERS + b"overflow", "upstream_reset_before_response_started{overflow}"),
    "UPSTREAM_TIMEOUT": (504, "UT", b"upstream request timeout", "upstream_response_timeout"),
    "UPSTREAM_PER_TRY_TIMEOUT": (504, "UT", b"upstream request timeout", "upstream_per_try_timeout"),
    "UPSTREAM_PROTOCOL_ERROR": (
        502,
        "UPE",
        BEFORE_HEADERS + b"protocol error",
        "upstream_reset_before_response_started{protocol_error}",
    ),
    "STREAM_IDLE_TIMEOUT": (504, "SI", b"stream timeout", "stream_idle_timeout"),
    "REQUEST_IDLE_TIMEOUT": (408, "SI", b"stream timeout", "stream_idle_timeout"),
    "REQUEST_TIMEOUT": (408, "SI", b"", "request_header_timeout"),
    "OVERLOADED": (503, "OM", b"envoy overloaded", "overload"),
    "PROTOCOL_ERROR": (400, "DPE", b"", "http1.codec_error"),
}


OWN = {"QUARANTINED": (503, "LR", b"request quarantined", "request_quarantined")}
"""What Envoy has nothing like."""


@pytest.mark.parametrize("name", ENVOY)
def test_status_flag_body_and_detail_are_envoy_s(name: str) -> None:
    assert tuple(Failure[name].value) == ENVOY[name]


def test_none_is_left_out() -> None:
    assert {failure.name: tuple(failure.value) for failure in Failure} == ENVOY | OWN
