# SPDX-License-Identifier: Apache-2.0
"""Properties of request reading: the pieces do not matter, and what goes on is what was judged."""

from __future__ import annotations

from urllib.parse import urlsplit

import h11
import httptools
from hypothesis import assume, event, given
from hypothesis import strategies as st

from acmgproxy.h1.authority import parse_authority
from acmgproxy.h1.errors import HeadError
from acmgproxy.h1.fields import UNDERSCORED, NameTable, field_reader
from acmgproxy.h1.request import LLHTTP_METHODS, RequestHead, parse_request_head
from tests.h1_kit import LIMITS, Reading, bytewise, cut, forward_request, read_request
from tests.property.h1_messages import CUTS, FIELDS, PROFILE, SOUND_REQUESTS, WILD_REQUESTS

REQUESTS = st.one_of(SOUND_REQUESTS, WILD_REQUESTS)
MOSTLY_SOUND = st.integers(0, 5).flatmap(lambda number: SOUND_REQUESTS if number else WILD_REQUESTS)

NOT_FORWARDED = {
    # of the hop
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings",
    # written anew, or answered by the proxy
    b"host", b"content-length", b"expect",
    # what only the gateway may say
    b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto", b"x-envoy-attempt-count", b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-original-path", b"x-envoy-internal", b"x-envoy-external-address", b"x-envoy-decorator-operation",
}  # fmt: skip


def accepted(data: bytes) -> Reading[RequestHead]:
    """Read a message; only those whose head is accepted go on."""
    reading = read_request([data])
    event(f"status {reading.status}, head {reading.head is not None}, done {reading.done}")
    assume(reading.head is not None)
    return reading


def naive_fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of an accepted head, lower-case name and stripped value."""
    text = data.removeprefix(b"\r\n").partition(b"\r\n\r\n")[0]
    fields = [line.partition(b":") for line in text.split(b"\r\n")[1:]]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in fields]


def naive_forwarded(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields that may go on."""
    listed = {token.strip(b" \t") for name, value in fields if name == b"connection" for token in value.lower().split(b",")}
    lookalikes = {name.replace(b"-", b"_") for name in NOT_FORWARDED if b"-" in name}
    return [
        (name, value)
        for name, value in fields
        if name not in NOT_FORWARDED | listed and not (b"_" in name and name.replace(b"-", b"_") in lookalikes)
    ]


def same(one: Reading[RequestHead], other: Reading[RequestHead]) -> bool:
    if one.status or other.status:
        return bool(one.status and other.status) and one.head == other.head
    return one == other


@PROFILE
@given(data=REQUESTS, cuts=CUTS)
def test_the_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    assume(b"\r\n\r\n" in data)  # before its end, a head that cannot become valid may be refused or not
    whole = read_request([data])
    assert same(whole, read_request(cut(data, cuts)))
    assert same(whole, read_request(bytewise(data)))


@PROFILE
@given(data=REQUESTS, cuts=CUTS)
def test_an_early_refusal_is_never_wrong(data: bytes, cuts: list[int]) -> None:
    head = data.partition(b"\r\n\r\n")[0]
    if read_request(cut(head, cuts)).status or read_request(bytewise(head)).status:
        assert read_request([head + b"\r\n\r\n"]).status
        assert read_request([head + b"\r\nHost: h\r\n\r\n"]).status


@PROFILE
@given(data=st.one_of(REQUESTS, st.binary()))
def test_any_head_is_accepted_or_refused_with_a_status(data: bytes) -> None:
    error = None
    try:
        parse_request_head(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", LIMITS)
    except HeadError as caught:
        error = caught
    assert error is None or (error.status in {400, 405, 414, 417, 431, 501, 505} and error.reason.isprintable())


@PROFILE
@given(data=MOSTLY_SOUND)
def test_h11_reads_the_same_message_from_what_goes_on(data: bytes) -> None:
    reading = accepted(data)
    head = reading.head
    assert head is not None
    server = h11.Connection(h11.SERVER)
    server.receive_data(forward_request(reading))
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, request.http_version) == (head.method, head.target, b"1.1")
    host, *fields = request.headers
    assert host == (b"host", head.authority or b"default.example")
    if fields and fields[-1][0] in (b"content-length", b"transfer-encoding"):
        fields.pop()
    assert fields == naive_forwarded(naive_fields(data))
    body, done = b"", False
    while (message := server.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        if isinstance(message, h11.Data):
            body += message.data
        else:
            assert isinstance(message, h11.EndOfMessage)
            assert not message.headers
            done = True
    assert (body, done) == (reading.body, reading.done)
    assert server.trailing_data == (b"", False)


class Callbacks:
    """Notes all that llhttp says."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.headers_done = False
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.url += url

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
def test_llhttp_reads_the_same_message(data: bytes) -> None:
    reading = accepted(data)
    head = reading.head
    assert head is not None
    first_line = data.removeprefix(b"\r\n").partition(b"\r\n")[0]
    assume(head.method in LLHTTP_METHODS and first_line[-1:] in b"01")
    assume(not reading.status and not head.upgrade and head.header(b"upgrade") is None)  # llhttp takes no body with Upgrade
    seen = Callbacks()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data[: len(data) - len(reading.rest)])
    except httptools.HttpParserError:
        assert b";" in data  # llhttp knows no white space before the extension of a chunk
        assume(False)
    assert parser.get_method() == head.method
    assert parser.get_http_version() == f"1.{head.minor}"
    assert seen.url == first_line.split(b" ")[1]
    assert seen.fields == naive_fields(data)
    assert (seen.body, seen.done) == (reading.body, reading.done)


@PROFILE
@given(data=MOSTLY_SOUND)
def test_every_field_can_be_asked_for(data: bytes) -> None:
    head = accepted(data).head
    assert head is not None
    fields = naive_fields(data)
    listed = {token.strip(b" \t") for name, value in fields if name == b"connection" for token in value.lower().split(b",")}
    for name in {name for name, _ in fields if b"_" not in name} - listed:
        assert head.header(name) == b",".join(value for known, value in fields if known == name)


@PROFILE
@given(
    value=st.one_of(
        st.text("aB.-_~[]:0189@,/ ", max_size=12).map(str.encode),
        st.builds(b"%b:%d".__mod__, st.tuples(st.sampled_from([b"h", b"[::1]", b"a.b.", b"1.2.3.4"]), st.integers(0, 70000))),
        st.ip_addresses(v=6).map(lambda address: f"[{address}]:1".encode()),
    )
)
def test_the_standard_library_reads_the_same_authority(value: bytes) -> None:
    try:
        judged = parse_authority(value)
    except HeadError:
        return
    url = urlsplit(b"//" + value)
    name = (url.hostname or b"").removesuffix(b".") or url.hostname
    assert judged.host.strip(b"[]") == name
    assert judged.port == (url.port or 0)
    assert parse_authority(judged.host).host == judged.host or judged.host.endswith(b".")


@PROFILE
@given(fields=FIELDS, underscore=st.booleans())
def test_a_reader_sorts_as_the_plain_rule_does(fields: list[tuple[bytes, bytes]], underscore: bool) -> None:
    read = field_reader(httptools.HttpRequestParser, NameTable(frozenset(NOT_FORWARDED), underscore=underscore), 400)
    lines, special = [], []
    for name, written in fields:
        low, value = name.lower(), written.lstrip(b" \t")
        if low in NOT_FORWARDED:
            special.append((low, value.rstrip(b" \t")))
        elif underscore and low.replace(b"_", b"-") in NOT_FORWARDED:
            special.append((UNDERSCORED, value.rstrip(b" \t")))
        else:
            lines.append(name + b": " + value)
    raw = b"GET / HTTP/1.1\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n"
    try:
        first = read(raw)
    except HeadError:  # llhttp looks at the values of some fields
        assume(False)
    assert first == (lines, special)
    assert read(raw) == first  # now from memory
