# SPDX-License-Identifier: Apache-2.0
"""How the API tells that something failed."""

from __future__ import annotations

from discovery.kube.errors import read_status, refusal

THROTTLED = b'{"code":429,"reason":"TooManyRequests","message":"slow down","details":{"retryAfterSeconds":3}}'


def test_a_status_becomes_an_error() -> None:
    error = read_status(THROTTLED)
    assert (error.status, error.reason, error.message, error.retry_after_s) == (429, "TooManyRequests", "slow down", 3.0)
    assert read_status(b"{}").status == 0
    assert read_status(b'"?"').message == '"?"'


def test_an_answers_head_goes_before_its_body() -> None:
    assert str(refusal(503, "Service Unavailable", "", THROTTLED)) == "503 TooManyRequests: slow down"
    assert refusal(503, "", "8", THROTTLED).retry_after_s == 8
    assert refusal(503, "", "", THROTTLED).retry_after_s == 3
    assert str(refusal(404, "Not Found", "", b"404 page\n not found")) == "404 Not Found: 404 page not found"
    assert refusal(599, "", "", b"").reason == "Unknown"
