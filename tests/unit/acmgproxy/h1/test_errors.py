# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from acmgproxy.h1.errors import HeadError


def test_an_error_carries_status_and_reason() -> None:
    error = HeadError(431, "head too large")
    assert (error.status, error.reason, str(error)) == (431, "head too large", "head too large")
    assert repr(error) == "HeadError(431, 'head too large')"
