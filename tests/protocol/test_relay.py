# SPDX-License-Identifier: Apache-2.0
"""Messages that pass: heads, bodies and their framing, in both directions."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.protocol.world import CHUNKED, REQUEST_ID, World, answer, forwarded, head_of, local, relayed, request
from tests.unit.routing.table_kit import HOST

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_get_goes_on_and_its_answer_comes_back(world: World) -> None:
    client = world.client().send(request("GET", "/a?b=1", "User-Agent: x", "Accept: */*"))
    assert world.upstream().take() == forwarded("GET", "/a?b=1", "User-Agent: x", "Accept: */*")
    world.upstream().feed(answer("200 Fine", "X-Y: Z", body=b"hello"))
    assert client.take() == relayed("200 Fine", "X-Y: Z", body=b"hello")
    assert world.counted() == {(200, "-"): 1}
    assert world.idle() == 1


@pytest.mark.parametrize("cuts", [(3,), (30, 31), tuple(range(1, 100))])
def test_cuts_in_the_bytes_make_no_difference(world: World, cuts: tuple[int, ...]) -> None:
    def pieces(data: bytes) -> list[bytes]:
        bounds = [0, *(cut for cut in cuts if cut < len(data)), len(data)]
        return [data[start:end] for start, end in pairwise(bounds)]

    client = world.client().send(*pieces(request("POST", "/", body=b"abcdef")))
    assert world.upstream().take() == forwarded("POST", "/", framing="content-length: 6", body=b"abcdef")
    for piece in pieces(answer(body=b"0123456789")):
        world.upstream().feed(piece)
    assert client.take() == relayed(body=b"0123456789")
    assert world.idle() == 1


def test_the_gateway_says_who_asks(make_world: Callable[..., World]) -> None:
    world = make_world()
    client = world.client(("10.1.2.3", 1)).send(
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: gopher\r\n"
        "X-Envoy-Attempt-Count: 9\r\nx-forwarded-for: 2.2.2.2\r\nX-Forwarded-Host: evil\r\nForwarded: for=evil\r\n\r\n".encode()
    )
    fields = head_of(world.upstream().take())[1]
    assert fields[b"x-forwarded-for"] == b"10.1.2.3"
    assert fields[b"x-forwarded-proto"] == b"http"
    assert b"x-forwarded-host" not in fields
    assert b"forwarded" not in fields
    assert fields[b"x-envoy-attempt-count"] == b"1"
    made = fields[b"x-request-id"]
    assert [len(part) for part in made.split(b"-")] == [8, 4, 4, 4, 12]
    assert made[14:15] == b"4"
    assert b"x-envoy-expected-rq-timeout-ms" not in fields
    world.upstream().feed(answer())
    client.send(request())
    assert head_of(world.upstream().take())[1][b"x-request-id"] == REQUEST_ID


def test_a_head_that_comes_again_is_sent_again_save_for_its_id(world: World) -> None:
    client = world.client()
    ids = set()
    for _ in range(4):
        client.send(request())
        assert world.upstream().take() == forwarded()
        world.upstream().feed(answer())
        client.take()
    for _ in range(4):
        client.send(f"GET /same HTTP/1.1\r\nHost: {HOST}\r\nX-Field: 1\r\n\r\n".encode())
        sent = world.upstream().take()
        made = head_of(sent)[1][b"x-request-id"]
        assert sent.replace(made, REQUEST_ID) == forwarded("GET", "/same", "X-Field: 1")
        ids.add(made)
        world.upstream().feed(answer())
        client.take()
    assert len(ids) == 4


def test_a_trusted_client_may_speak_for_others(make_world: Callable[..., World]) -> None:
    world = make_world(trusted_callers=("10.0.0.0/8",))
    world.client(("10.1.2.3", 1)).send(
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
        "x-forwarded-for: 2.2.2.2\r\nX-Forwarded-Host: shop\r\nForwarded: for=1.1.1.1\r\n\r\n".encode()
    )
    fields = head_of(world.upstream().take())[1]
    assert fields[b"x-forwarded-for"] == b"1.1.1.1,2.2.2.2,10.1.2.3"
    assert fields[b"x-forwarded-proto"] == b"https"
    assert fields[b"x-forwarded-host"] == b"shop"
    assert fields[b"forwarded"] == b"for=1.1.1.1"


def test_hop_by_hop_fields_stay_here(world: World) -> None:
    client = world.client().send(
        request("GET", "/", "Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "TE: trailers", "X-Ours: 2")
    )
    assert world.upstream().take() == forwarded("GET", "/", "X-Ours: 2")
    world.upstream().feed(answer("200 OK", "Connection: X-Theirs", "X-Theirs: 1", "Keep-Alive: timeout=5", "X-All: 2"))
    assert client.take() == relayed("200 OK", "X-All: 2")
    assert world.idle() == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_methods_without_a_body_say_nothing_of_one(world: World, method: str) -> None:
    world.client().send(request(method))
    assert world.upstream().take() == forwarded(method)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_methods_with_a_body_say_that_it_is_empty(world: World, method: str) -> None:
    world.client().send(request(method))
    assert world.upstream().take() == forwarded(method, framing="content-length: 0")


class TestBodies:
    def test_a_chunked_request_is_framed_anew(self, world: World) -> None:
        client = world.client().send(request("POST", "/", CHUNKED, body=b'3;x="y"\r\nabc\r\n'))
        upstream = world.upstream()
        assert upstream.take() == forwarded("POST", "/", framing=CHUNKED, body=b"3\r\nabc\r\n")
        client.send(b"0004\r\nde", b"fg\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert upstream.take() == b"2\r\nde\r\n2\r\nfg\r\n0\r\n\r\n"
        upstream.feed(answer())
        assert client.take() == relayed()
        assert world.idle() == 1

    def test_a_whole_chunked_request_that_waited_for_a_connection(self, world: World) -> None:
        client = world.client()
        client.transport.protocol.data_received(request("POST", "/", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"))
        world.loop.settle()
        assert world.upstream().take() == forwarded("POST", "/", framing=CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n")
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_an_empty_chunked_request(self, world: World) -> None:
        world.client().send(request("POST", "/", CHUNKED, body=b"0\r\n\r\n"))
        assert world.upstream().take() == forwarded("POST", "/", framing=CHUNKED, body=b"0\r\n\r\n")

    def test_a_counted_request_in_pieces(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Content-Length: 6", body=b"ab"))
        assert world.upstream().take() == forwarded("POST", "/", framing="content-length: 6", body=b"ab")
        client.send(b"cd")
        assert world.upstream().take() == b"cd"
        client.send(b"ef" + request("GET", "/next"))
        assert world.upstream().take() == b"ef"
        world.upstream().feed(answer())
        assert world.upstream().take() == forwarded("GET", "/next")

    def test_a_chunked_answer_is_framed_anew(self, world: World) -> None:
        client = world.client().send(request())
        upstream = world.upstream()
        upstream.feed(answer("200 OK", CHUNKED, body=b"5;ext\r\nhel"))
        assert client.take() == relayed(framing=CHUNKED)[:-4] + b"\r\n\r\n3\r\nhel\r\n"
        upstream.feed(b"lo\r\n")
        assert client.take() == b"2\r\nlo\r\n"
        upstream.feed(b"0")
        assert client.take() == b""
        upstream.feed(b"\r\nX-Trailer: 1\r\n\r\n")
        assert client.take() == b"0\r\n\r\n"
        assert world.idle() == 1

    def test_the_last_data_and_the_end_go_in_one_write(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED))
        client.take()
        world.upstream().feed(b"2\r\nab\r\n0\r\n\r\n")
        assert client.take() == b"2\r\nab\r\n0\r\n\r\n"

    def test_a_chunked_answer_that_came_whole_gets_its_length(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"))
        assert client.take() == relayed(body=b"hello")

    def test_a_counted_answer_in_pieces(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(answer("200 OK", "content-length: 10", body=b"01234"))
        assert client.take() == relayed(framing="content-length: 10", body=b"01234")
        world.upstream().feed(b"567")
        world.upstream().feed(b"89")
        assert client.take() == b"56789"
        assert world.idle() == 1

    def test_an_answer_that_ends_with_the_connection(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
        world.upstream().feed(b"def")
        world.upstream().feed_eof()
        assert client.take() == relayed(framing=CHUNKED, body=b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert world.upstream().lost
        assert not client.ended
        assert world.counted() == {(200, "-"): 1}

    @pytest.mark.parametrize(
        ("method", "status", "framing", "expected"),
        [
            ("HEAD", "200 OK", "content-length: 10", "content-length: 10"),
            ("HEAD", "200 OK", CHUNKED, CHUNKED),
            ("GET", "304 Not Modified", "content-length: 10", "content-length: 10"),
            ("GET", "204 No Content", "content-length: 0", "none"),
            ("GET", "304 Not Modified", CHUNKED, "none"),
        ],
    )
    def test_answers_that_have_no_body(self, world: World, method: str, status: str, framing: str, expected: str) -> None:
        client = world.client().send(request(method))
        world.upstream().feed(answer(status, framing))
        assert client.take() == relayed(status, framing=expected)
        client.send(request())
        assert len(world.accepted) == 1, "the connection is good for the next"
        assert world.upstream().take().endswith(forwarded())


class TestInformational:
    def test_100_is_swallowed(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.take() == b""
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_103_reaches_a_client_that_knows_it(self, world: World) -> None:
        client = world.client().send(request())
        world.upstream().feed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer())
        assert client.take() == b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + relayed()
        assert world.idle() == 1

    def test_103_is_kept_from_an_old_client(self, world: World) -> None:
        client = world.client().send(request(minor=0))
        world.upstream().feed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer())
        assert client.take() == relayed(end="close")

    def test_five_are_borne_and_a_later_request_begins_anew(self, world: World) -> None:
        client = world.client()
        for _ in range(2):
            client.send(request())
            world.upstream().feed(b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + answer())
            assert client.take() == relayed()

    @pytest.mark.parametrize(
        "unwanted", [b"HTTP/1.1 102 Processing\r\n\r\n" * 6, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"]
    )
    def test_too_many_and_unasked_upgrades_are_502(self, world: World, unwanted: bytes) -> None:
        client = world.client().send(request())
        world.upstream().feed(unwanted)
        body = b"upstream connect error or disconnect/reset before headers. reset reason: protocol error"
        assert client.take() == local("502 Bad Gateway", body)
        assert world.upstream().aborted
        assert world.counted() == {(502, "UPE"): 1}


class TestExpectContinue:
    def test_the_body_is_asked_for_when_an_endpoint_wants_it(self, world: World) -> None:
        client = world.client()
        expecting = request("POST", "/", "Expect: 100-continue", "Content-Length: 3")
        client.transport.protocol.data_received(expecting)
        assert client.take() == b"", "nobody takes it yet"
        world.loop.settle()
        assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert world.upstream().take() == forwarded("POST", "/", framing="content-length: 3")
        client.send(b"abc")
        assert world.upstream().take() == b"abc"
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_not_when_the_body_came_anyway(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Expect: 100-continue", body=b"abc"))
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_not_without_a_body(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Expect: 100-continue"))
        world.upstream().feed(answer())
        assert client.take() == relayed()

    def test_a_refusal_comes_without_it_and_ends_the_connection(self, make_world: Callable[..., World]) -> None:
        world = make_world(endpoints=0)
        client = world.client().send(request("POST", "/", "Expect: 100-continue", "Content-Length: 3"))
        assert client.take() == local("503 Service Unavailable", b"no healthy upstream", end="close")
        assert client.ended

    def test_an_early_answer_of_the_endpoint(self, world: World) -> None:
        client = world.client().send(request("POST", "/", "Expect: 100-continue", "Content-Length: 3"))
        client.take()
        world.upstream().feed(answer("401 Unauthorized"))
        assert client.take() == relayed("401 Unauthorized", end="close")
        assert world.upstream().aborted


class TestRepetition:
    """The last head of a connection is remembered; that must not show."""

    def test_the_same_head_before_different_bodies(self, world: World) -> None:
        client = world.client()
        head = answer("200 OK", CHUNKED)
        for _ in range(2):
            client.send(request())
            world.upstream().feed(head + b"3\r\nabc\r\n0\r\n\r\n")
            assert client.take() == relayed(body=b"abc")
            client.send(request())
            world.upstream().feed(head)
            world.upstream().feed(b"3\r\nabc\r\n0\r\n\r\n")
            assert client.take() == relayed(framing=CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n")

    def test_the_same_head_after_different_methods(self, world: World) -> None:
        client = world.client()
        for _ in range(2):
            client.send(request("HEAD"))
            world.upstream().feed(answer("200 OK", "content-length: 3"))
            assert client.take() == relayed(framing="content-length: 3")
            client.send(request())
            world.upstream().feed(answer("200 OK", "content-length: 3", body=b"abc"))
            assert client.take() == relayed(body=b"abc")
        assert len(world.accepted) == 1

    def test_each_request_has_an_id_of_its_own(self, world: World) -> None:
        client = world.client()
        ids = set()
        for _ in range(3):
            client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            ids.add(head_of(world.upstream().take())[1][b"x-request-id"])
            world.upstream().feed(answer())
        assert len(ids) == 3

    def test_bodies_are_told_from_heads(self, world: World) -> None:
        client = world.client()
        for body in (b"one", b"two"):
            client.send(request("POST", "/", body=body))
            assert world.upstream().take() == forwarded("POST", "/", framing="content-length: 3", body=body)
            world.upstream().feed(answer())
        assert client.take() == relayed() * 2

    def test_the_last_of_equal_requests_says_close(self, world: World) -> None:
        client = world.client().send(request(), request())
        client.transport.feed_eof()
        world.upstream().feed(answer())
        world.upstream().feed(answer())
        assert client.take() == relayed() + relayed(end="close")
        other = world.client().send(request())
        world.upstream().feed(answer())
        assert other.take() == relayed()
