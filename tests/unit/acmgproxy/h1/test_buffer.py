# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import httptools
import pytest

from acmgproxy.h1.buffer import END_OF_HEAD, HeadBuffer
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def request_buffer(limits: Limits | None = None) -> HeadBuffer:
    return HeadBuffer(httptools.HttpRequestParser, 431, limits or Limits(), skip_blank=True)


def response_buffer(limits: Limits | None = None) -> HeadBuffer:
    return HeadBuffer(httptools.HttpResponseParser, 502, limits or Limits())


def add_bytewise(buffer: HeadBuffer, data: bytes) -> tuple[bytes, bytes] | None:
    """Add byte by byte; nothing may be found before the last."""
    for position in range(len(data) - 1):
        assert buffer.add(data[position : position + 1]) is None
    return buffer.add(data[-1:])


def status_of(buffer: HeadBuffer, *pieces: bytes) -> int:
    """Return the status of the error that the last piece causes."""
    for piece in pieces[:-1]:
        assert buffer.add(piece) is None
    with pytest.raises(HeadError) as caught:
        buffer.add(pieces[-1])
    return caught.value.status


def test_a_whole_head_is_found_at_once() -> None:
    assert request_buffer().add(HEAD + b"body\r\n\r\n") == (HEAD, b"body\r\n\r\n")


def test_a_head_is_found_in_single_bytes() -> None:
    assert add_bytewise(request_buffer(), HEAD) == (HEAD, b"")


@pytest.mark.parametrize("cut", range(1, len(HEAD)))
def test_a_head_in_two_pieces_is_found_with_what_follows(cut: int) -> None:
    buffer = request_buffer()
    assert buffer.add(HEAD[:cut]) is None
    assert len(buffer) == cut
    assert repr(buffer) == f"HeadBuffer({cut} bytes)"
    assert buffer.add(HEAD[cut:] + b"rest") == (HEAD, b"rest")


@pytest.mark.parametrize("pieces", [[b"\r\n" + HEAD], [b"\r", b"\n" + HEAD], [b"\r\n", HEAD], [b"\r", b"\n", HEAD[:9], HEAD[9:]]])
def test_one_blank_line_before_a_request_is_passed_over(pieces: list[bytes]) -> None:
    buffer = request_buffer()
    for piece in pieces[:-1]:
        assert buffer.add(piece) is None
    assert buffer.add(pieces[-1]) == (HEAD, b"")


def test_a_second_blank_line_is_part_of_the_head() -> None:
    assert request_buffer().add(b"\r\n\r\n" + HEAD) == (b"\r\n" + HEAD, b"")


def test_a_blank_line_before_a_response_is_part_of_the_head() -> None:
    assert response_buffer().add(b"\r\nHTTP/1.1 200 OK\r\n\r\n") == (b"\r\nHTTP/1.1 200 OK\r\n\r\n", b"")


def test_an_empty_head_is_a_head() -> None:
    assert request_buffer().add(b"\r\n\r\n\r\n") == (END_OF_HEAD, b"")


@pytest.mark.parametrize(("make", "status"), [(request_buffer, 431), (response_buffer, 502)])
def test_a_head_over_the_limit_is_refused(make: Callable[[Limits], HeadBuffer], status: int) -> None:
    line = HEAD[:-2] if status == 431 else b"HTTP/1.1 200 OK\r\n"
    exact = line + b"X-Pad: %b\r\n\r\n" % (b"a" * 50)
    limits = Limits(max_head_bytes=len(exact))
    assert make(limits).add(exact + b"more") == (exact, b"more")
    assert add_bytewise(make(limits), exact) == (exact, b"")
    over = line + b"X-Pad: %b\r\n\r\n" % (b"a" * 51)
    assert status_of(make(limits), over) == status
    assert status_of(make(limits), over[:60], over[60:]) == status
    assert status_of(make(limits), over[:-4], b"aaaa") == status


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nHost : a",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded",
        b"GET / HTTP/1.1\nHost",
        b"GET / HTTP/1.1\r\nHost: a\x00",
        b"GET /\xff",
        b"GE\xff",
        b"GET\t/",
        b"GET / XTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n\x00",
        b"M" * 65,
    ],
)
def test_a_request_head_that_cannot_become_valid_is_refused_at_once(data: bytes) -> None:
    assert status_of(request_buffer(), data) == 400


@pytest.mark.parametrize("data", [b"CONNECT h:80\n\r\n", b"CONNECT h:80HEADP/1\n\r\nok"])
def test_a_connect_that_llhttp_takes_for_complete_is_refused(data: bytes) -> None:
    assert status_of(request_buffer(), data) == 400


@pytest.mark.parametrize("data", [b"HTTP/1.2 200", b"HTTQ", b"GET / ", b"HTTP/1.1 2000", b"HTTP/1.1 200 OK\r\nX\r\n"])
def test_a_response_head_that_cannot_become_valid_is_refused_at_once(data: bytes) -> None:
    assert status_of(response_buffer(), data) == 502


@pytest.mark.parametrize(
    "line",
    [
        b"FROBNICATE / HTTP/1.1",
        b"GETX / HTTP/1.1",
        b"get / HTTP/1.1",
        b"ANNOUNCE /a HTTP/1.1",
        b"GET / HTTP/1.2",
        b"X / HTTP/1.9",
    ],
)
def test_a_legal_line_that_llhttp_does_not_know_waits_for_the_whole_head(line: bytes) -> None:
    head = line + b"\r\nHost: a\r\n\r\n"
    assert add_bytewise(request_buffer(), head) == (head, b"")
    buffer = request_buffer()
    assert buffer.add(head[:-2]) is None
    assert buffer.add(head[-2:]) == (head, b"")
