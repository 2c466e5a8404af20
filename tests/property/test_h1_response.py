# SPDX-License-Identifier: Apache-2.0
"""Properties of answer reading: the pieces do not matter, and what goes on is what was judged."""

from __future__ import annotations

import h11
import httptools
from hypothesis import assume, event, given
from hypothesis import strategies as st

from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.fields import NEVER_LISTED
from acmgproxy.h1.response import UNTIL_CLOSE, ResponseHead, parse_response_head
from tests.h1_kit import LIMITS, Reading, bytewise, cut, forward_response, read_response
from tests.property.h1_messages import CUTS, PROFILE, SOUND_RESPONSES, WILD_RESPONSES

RESPONSES = st.one_of(SOUND_RESPONSES, WILD_RESPONSES)
MOSTLY_SOUND = st.integers(0, 5).flatmap(lambda number: SOUND_RESPONSES if number else WILD_RESPONSES)
METHODS = st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"POST"])

NOT_FORWARDED = {
    # of the hop
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings",
    # written anew
    b"content-length", b"date", b"x-envoy-upstream-service-time",
    # what an upstream that is a gateway itself has to say to that one alone
    b"x-envoy-decorator-operation", b"x-envoy-attempt-count",
}  # fmt: skip


def accepted(data: bytes, method: bytes) -> Reading[ResponseHead]:
    """Read an answer; only those whose head is accepted go on."""
    reading = read_response([data], method)
    event(f"status {reading.status}, head {reading.head is not None}, done {reading.done}")
    assume(reading.head is not None)
    return reading


def naive_fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of an accepted head, lower-case name and stripped value."""
    fields = [line.partition(b":") for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in fields]


def naive_forwarded(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields that may go on."""
    listed = {token.strip(b" \t") for name, value in fields if name == b"connection" for token in value.lower().split(b",")}
    return [(name, value) for name, value in fields if name not in NOT_FORWARDED | (listed - NEVER_LISTED)]


@PROFILE
@given(data=RESPONSES, method=METHODS, cuts=CUTS)
def test_the_pieces_do_not_matter(data: bytes, method: bytes, cuts: list[int]) -> None:
    assume(b"\r\n\r\n" in data)  # before its end, a head that cannot become valid may be refused or not
    whole = read_response([data], method)
    for pieces in (cut(data, cuts), bytewise(data)):
        other = read_response(pieces, method)
        if whole.status:
            assert (other.status, other.head) == (whole.status, whole.head)
        else:
            assert other == whole


@PROFILE
@given(data=RESPONSES, cuts=CUTS)
def test_an_early_refusal_is_never_wrong(data: bytes, cuts: list[int]) -> None:
    head = data.partition(b"\r\n\r\n")[0]
    if read_response(cut(head, cuts)).status or read_response(bytewise(head)).status:
        assert read_response([head + b"\r\n\r\n"]).status == 502


@PROFILE
@given(data=st.one_of(RESPONSES, st.binary()), method=METHODS)
def test_any_head_is_accepted_or_refused(data: bytes, method: bytes) -> None:
    error = None
    try:
        parse_response_head(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", method, LIMITS)
    except HeadError as caught:
        error = caught
    assert error is None or (error.status == 502 and error.reason.isprintable())


@PROFILE
@given(data=MOSTLY_SOUND, method=METHODS, minor=st.sampled_from([1, 1, 0]))
def test_h11_reads_the_same_answer_from_what_goes_on(data: bytes, method: bytes, minor: int) -> None:
    reading = accepted(data, method)
    head = reading.head
    assert head is not None
    assume(head.status >= 200)
    close = minor == 0 and head.body_length < 0
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(forward_response(reading, minor=minor))
    if close:
        client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert b"%d %b" % (response.status_code, response.reason) == head.status_line
    fields = [field for field in response.headers if field[0] not in (b"content-length", b"transfer-encoding", b"connection")]
    assert fields == naive_forwarded(naive_fields(data))
    assert head.date == b",".join(value for name, value in naive_fields(data) if name == b"date")
    body, done = b"", False
    while (message := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(message, h11.Data):
            body += message.data
        elif isinstance(message, h11.EndOfMessage):
            done = True
        elif isinstance(message, h11.ConnectionClosed):
            break
    assert body == reading.body
    assert done is (reading.done or close)


class Callbacks:
    """Notes all that llhttp says."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.headers_done = False
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headers_done:  # later ones are trailers
            self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.headers_done = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


@PROFILE
@given(data=MOSTLY_SOUND)
def test_llhttp_reads_the_same_answer(data: bytes) -> None:
    reading = accepted(data, b"GET")
    head = reading.head
    assert head is not None
    assume(not reading.status and head.header(b"upgrade") is None)  # llhttp takes no body with Upgrade
    seen = Callbacks()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(data[: len(data) - len(reading.rest)])
    except httptools.HttpParserError:
        assert b";" in data  # llhttp knows no white space before the extension of a chunk
        assume(False)
    assert parser.get_status_code() == head.status
    assert seen.fields == naive_fields(data)
    assert seen.body == reading.body
    assert seen.done is (reading.done and head.body_length != UNTIL_CLOSE)


@PROFILE
@given(data=MOSTLY_SOUND)
def test_every_field_can_be_asked_for(data: bytes) -> None:
    head = accepted(data, b"GET").head
    assert head is not None
    fields = naive_fields(data)
    listed = {token.strip(b" \t") for name, value in fields if name == b"connection" for token in value.lower().split(b",")}
    for name in {name for name, _ in fields} - listed:
        assert head.header(name) == b",".join(value for known, value in fields if known == name)
