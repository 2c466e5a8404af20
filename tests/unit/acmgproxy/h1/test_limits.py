# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from acmgproxy.h1.limits import Limits


def test_every_limit_is_positive_and_fixed() -> None:
    limits = Limits()
    assert all(getattr(limits, field.name) > 0 for field in fields(Limits))
    with pytest.raises(FrozenInstanceError):
        limits.max_fields = 1  # type: ignore[misc]


def test_targets_of_8000_octets_are_within_the_limit() -> None:
    """RFC 9112 section 3 recommends to support request lines of at least that."""
    assert Limits().max_target_bytes >= 8000
    assert Limits().max_head_bytes > Limits().max_target_bytes


def test_the_parts_fit_into_the_whole() -> None:
    limits = Limits()
    assert limits.max_chunk_line_bytes < limits.max_chunk_extension_bytes
    assert limits.max_trailers < limits.max_fields
