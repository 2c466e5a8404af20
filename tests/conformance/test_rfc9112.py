# SPDX-License-Identifier: Apache-2.0
"""Every clause in the tables, with the bytes fed whole, one by one, and line by line.

A head in pieces may be refused before what would have decided its status has come: then with 400. Whether it is refused never
depends on the pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.requests import REQUESTS
from tests.conformance.responses import RESPONSES
from tests.h1_kit import at_lines, bytewise, forward_request, forward_response, read_request, read_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.rows import Row


def whole(data: bytes) -> list[bytes]:
    return [data]


WAYS = pytest.mark.parametrize("pieces", [whole, bytewise, at_lines])


def name(row: Row) -> str:
    return row.id


@WAYS
@pytest.mark.parametrize("row", REQUESTS, ids=name)
def test_request(row: Row, pieces: Callable[[bytes], list[bytes]]) -> None:
    reading = read_request(pieces(row.data))
    if row.status:
        assert not reading.done, row.clause
        assert reading.status == row.status or (pieces is not whole and reading.status == 400), row.clause
        return
    assert (reading.status, reading.done, reading.rest) == (0, row.complete, b""), row.clause
    assert forward_request(reading) == row.expected, row.clause


@WAYS
@pytest.mark.parametrize("row", RESPONSES, ids=name)
def test_response(row: Row, pieces: Callable[[bytes], list[bytes]]) -> None:
    reading = read_response(pieces(row.data), row.method)
    if row.status:
        assert not reading.done, row.clause
        assert reading.status, row.clause
        return
    assert (reading.status, reading.done, reading.rest) == (0, row.complete, b""), row.clause
    assert forward_response(reading, minor=row.minor) == row.expected, row.clause


@pytest.mark.parametrize("table", [REQUESTS, RESPONSES], ids=["requests", "responses"])
def test_every_row_has_a_name_of_its_own(table: list[Row]) -> None:
    assert len({row.id for row in table}) == len(table)
