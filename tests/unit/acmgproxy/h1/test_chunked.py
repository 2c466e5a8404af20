# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from acmgproxy.h1.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits


def decode(*pieces: bytes, limits: Limits | None = None) -> tuple[bytes, bytes, bool]:
    """Return body, what follows it and whether it ended."""
    decoder = ChunkedDecoder(limits or Limits())
    body, rest = b"", b""
    for piece in pieces:
        assert not rest
        data, rest = decoder.feed(piece)
        body += b"".join(data)
    return body, rest, decoder.done


def bytewise(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\nhe\r\n3\r\nllo\r\n000\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b"00000000000000b\r\n\r\n0\r\n\r\nabcd\r\n0\r\n\r\n", b"\r\n0\r\n\r\nabcd"),
        (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
        (b'1 ;\ta = b ; c="d\\"; e\\\\\xff\t"\r\nx\r\n0\r\n\r\n', b"x"),
        (b'1;a=""\r\nx\r\n0\r\n\r\n', b"x"),
        (b"1\r\nx\r\n0\r\nX-Sum: 1\r\nEmpty:\r\nObs: \xff\t \r\n\r\n", b"x"),
    ],
)
def test_a_body_is_decoded(coded: bytes, body: bytes) -> None:
    assert decode(coded) == (body, b"", True)
    assert decode(*bytewise(coded)) == (body, b"", True)
    assert decode(coded + b"GET /next") == (body, b"GET /next", True)


@pytest.mark.parametrize(
    "coded",
    [
        b"\r\n", b"\n", b"g\r\n", b" 1\r\n", b"1 \r\n", b"1\t\r\n", b"+1\r\n", b"-1\r\n", b"0x1\r\n", b"1_0\r\n", b"1.0\r\n",
        b"1,\r\n",
        b"0000000000000001\r\n", b"ffffffffffffffff\r\n", b"1\n", b"1\r\r\n", b"1\rx\r\n", b"1;\r\n", b"1;;\r\n", b"1; \r\n",
        b"1;a=\r\n", b"1;=b\r\n", b"1;a b\r\n", b'1;a="\r\n', b'1;a="b\r\n', b'1;a="b"c\r\n', b'1;a="\x00"\r\n', b"1;a=\x7f\r\n",
        b"1;a\x00\r\n", b"1;a\n", b"1 a\r\n", b"1\x00\r\n",
    ],
)  # fmt: skip
def test_a_malformed_size_line_is_refused(coded: bytes) -> None:
    for pieces in ([coded], bytewise(coded)):
        with pytest.raises(HeadError) as caught:
            decode(*pieces)
        assert caught.value.status == 400


@pytest.mark.parametrize("end", [b"\n", b"x", b"x\r\n", b"\rx", b"\r\r\n", b" \r\n", b"0\r\n\r\n", b"\n\r\n"])
def test_chunk_data_must_end_with_crlf(end: bytes) -> None:
    for pieces in ([b"1\r\na" + end], bytewise(b"1\r\na" + end)):
        with pytest.raises(HeadError) as caught:
            decode(*pieces)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "trailers",
    [b"\n", b"\rx", b"X\r\n", b": a\r\n", b"X : a\r\n", b" X: a\r\n", b"X: a\n", b"X: a\r\r\n", b"X: \x00\r\n", b"X: a\x7f\r\n",
     b"X: a\r\n folded\r\n", b"X(: a\r\n", b"X: a\r\n\n"],
)  # fmt: skip
def test_a_malformed_trailer_is_refused(trailers: bytes) -> None:
    for pieces in ([b"0\r\n" + trailers], bytewise(b"0\r\n" + trailers)):
        with pytest.raises(HeadError) as caught:
            decode(*pieces)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "coded", [b"", b"5", b"5\r", b"5;a", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r", b"0\r\n", b"0\r\nX"]
)
def test_an_unfinished_body_is_not_done(coded: bytes) -> None:
    assert decode(coded)[1:] == (b"", False)
    assert decode(*bytewise(coded))[1:] == (b"", False)


def test_data_passes_as_it_comes() -> None:
    decoder = ChunkedDecoder(Limits())
    assert decoder.feed(b"5\r\nhe") == ([b"he"], b"")
    assert repr(decoder) == "ChunkedDecoder(DATA, left=3)"
    assert decoder.feed(b"llo") == ([b"llo"], b"")
    assert repr(decoder) == "ChunkedDecoder(DATA_END, left=0)"
    assert decoder.feed(b"\r\n1\r\n!\r\n0\r\n\r\n") == ([b"!"], b"")
    assert repr(decoder) == "ChunkedDecoder(DONE, left=0)"


def line_at(limit: int, end: bytes = b"\r\n") -> bytes:
    return b"1;" + b"a" * (limit - 2) + end


def test_the_length_of_a_size_line_is_limited() -> None:
    limits = Limits(max_chunk_line_bytes=20)
    exact, over = line_at(20) + b"x\r\n" + LAST_CHUNK, line_at(21)
    assert decode(exact, limits=limits) == (b"x", b"", True)
    assert decode(*bytewise(exact), limits=limits) == (b"x", b"", True)
    for pieces in ([over], bytewise(over), [over[:-2]]):
        with pytest.raises(HeadError, match="line too long"):
            decode(*pieces, limits=limits)


def test_the_extensions_of_a_body_are_limited_together() -> None:
    limits = Limits(max_chunk_extension_bytes=10)
    chunk = b"1;abcd\r\nx\r\n"
    assert decode(chunk * 2 + LAST_CHUNK, limits=limits) == (b"xx", b"", True)
    for pieces in ([chunk * 2 + b"0;a\r\n"], bytewise(chunk * 2 + b"0;a\r\n")):
        with pytest.raises(HeadError, match="extensions too large"):
            decode(*pieces, limits=limits)


def test_the_size_of_the_trailers_is_limited() -> None:
    limits = Limits(max_trailer_bytes=18)
    exact, over = b"0\r\nX: 67\r\nY: 345678\r\n\r\n", b"0\r\nX: 67\r\nY: 3456789\r\n\r\n"
    assert decode(exact, limits=limits) == (b"", b"", True)
    assert decode(*bytewise(exact), limits=limits) == (b"", b"", True)
    for pieces in ([over], bytewise(over), [b"0\r\nX:" + b" " * 30]):
        with pytest.raises(HeadError, match="trailer section too large"):
            decode(*pieces, limits=limits)


def test_the_number_of_trailers_is_limited() -> None:
    limits = Limits(max_trailers=2)
    assert decode(b"0\r\nA: 1\r\nB: 2\r\n\r\n", limits=limits) == (b"", b"", True)
    with pytest.raises(HeadError, match="trailer section too large"):
        decode(b"0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", limits=limits)


def test_a_chunk_is_encoded_with_its_length() -> None:
    assert encode_chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
    assert decode(encode_chunk(b"a" * 26) + LAST_CHUNK) == (b"a" * 26, b"", True)
