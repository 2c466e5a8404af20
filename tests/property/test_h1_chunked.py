# SPDX-License-Identifier: Apache-2.0
"""Properties of the chunked coding: what is encoded is decoded, the pieces do not matter, others read the same data."""

from __future__ import annotations

import h11
import httptools
from hypothesis import assume, event, given
from hypothesis import strategies as st

from acmgproxy.h1.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.limits import Limits
from tests.h1_kit import bytewise, cut
from tests.property.h1_messages import CHUNKED_BODIES, CUTS, PROFILE

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
TIGHT = Limits(max_chunk_line_bytes=8, max_chunk_extension_bytes=9, max_trailer_bytes=12, max_trailers=2)

Decoded = tuple[bytes, bytes, bool]


def decode(pieces: list[bytes], limits: Limits) -> Decoded | None:
    """Return data, what follows the body and whether it ended; None when it was refused."""
    decoder = ChunkedDecoder(limits)
    body, rest, done = b"", b"", False
    try:
        for piece in pieces:
            if done:
                rest += piece
                continue
            data, rest = decoder.feed(piece)
            done = decoder.done
            assert all(data)  # an empty piece would end the body when it is encoded again
            assert done or not rest
            body += b"".join(data)
    except HeadError as error:
        assert error.status == 400  # noqa: PT017 - the other way round, a refusal would be expected
        return None
    return body, rest, done


@PROFILE
@given(pieces=st.lists(st.binary(min_size=1, max_size=300)), rest=st.binary(max_size=9), cuts=CUTS)
def test_what_is_encoded_is_decoded(pieces: list[bytes], rest: bytes, cuts: list[int]) -> None:
    coded = b"".join(map(encode_chunk, pieces)) + LAST_CHUNK
    assert decode([coded + rest], Limits()) == (b"".join(pieces), rest, True)
    assert decode(cut(coded, cuts), Limits()) == (b"".join(pieces), b"", True)


@PROFILE
@given(
    coded=CHUNKED_BODIES, rest=st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]), cuts=CUTS, limits=st.sampled_from([Limits(), TIGHT])
)
def test_the_pieces_do_not_matter(coded: bytes, rest: bytes, cuts: list[int], limits: Limits) -> None:
    coded += rest
    whole = decode([coded], limits)
    event("refused" if whole is None else f"done: {whole[2]}")
    assert decode(cut(coded, cuts), limits) == whole
    assert decode(bytewise(coded), limits) == whole


@PROFILE
@given(coded=CHUNKED_BODIES)
def test_more_bytes_never_make_a_refused_body_valid(coded: bytes) -> None:
    for end in range(len(coded)):
        if decode([coded[:end]], Limits()) is None:
            assert decode([coded], Limits()) is None
            break


def decode_by_h11(coded: bytes) -> Decoded | None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(HEAD + coded)
    body, done = b"", False
    try:
        while (event := server.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                done = True
    except h11.RemoteProtocolError:
        return None
    return body, server.trailing_data[0], done


class Callbacks:
    """Notes the body that llhttp finds."""

    def __init__(self) -> None:
        self.body = b""
        self.done = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


@PROFILE
@given(coded=CHUNKED_BODIES)
def test_whoever_accepts_a_body_reads_the_same_data(coded: bytes) -> None:
    decoded = decode([coded], Limits())
    assume(decoded is not None)
    assert decoded is not None
    body, rest, done = decoded
    assume(done)
    by_h11 = decode_by_h11(coded[: len(coded) - len(rest)])
    assert by_h11 in (None, (body, b"", True))
    seen = Callbacks()
    try:
        httptools.HttpRequestParser(seen).feed_data(HEAD + coded[: len(coded) - len(rest)])
    except httptools.HttpParserError:
        return
    assert (seen.body, seen.done) == (body, True)
