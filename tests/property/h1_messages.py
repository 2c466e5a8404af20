# SPDX-License-Identifier: Apache-2.0
"""Strategies for HTTP/1.1 messages.

SOUND messages are valid, of the parts where parsers differ. WILD ones are put together without regard to what fits, or are SOUND
ones damaged in a few places, or are any bytes.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

__all__ = [
    "CHUNKED_BODIES",
    "CUTS",
    "FIELDS",
    "PROFILE",
    "SOUND_REQUESTS",
    "SOUND_RESPONSES",
    "WILD_REQUESTS",
    "WILD_RESPONSES",
]

Field = tuple[bytes, bytes]

PROFILE = settings(max_examples=250, deadline=None)
"""Without a deadline: the time of one example says nothing on a machine that does other things as well."""

CUTS = st.lists(st.integers(0, 4096), max_size=6)

EVIL = [
    *[b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\n ", b"\x00", b"\x0b", b"\x7f", b"\x80", b"\xff", b" ", b"\t", b""],
    *[b":", b",", b";", b"#", b"?", b"@", b"/", b"_", b"-", b"0", b"1", b"x"],
    *[b"chunked", b"Host: h\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: host\r\n"],
]
"""What is put into a message to damage it."""

# -- fields

_TOKENS = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12).map(str.encode)
_NAMES = st.one_of(
    st.sampled_from(
        [
            *[b"Accept", b"X-One", b"x-one", b"X-Two", b"Cookie", b"Content-Type", b"Date", b"x_other", b"_"],
            *[b"Keep-Alive", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings", b"Proxy-Connection"],
            *[b"Proxy-Authorization", b"Proxy-Authenticate", b"X-Request-Id", b"X-Forwarded-For", b"X-Forwarded-Proto"],
            *[b"X-Envoy-Internal", b"X-Envoy-Attempt-Count", b"x-envoy-upstream-service-time"],
            *[b"X_Forwarded_For", b"X-Forwarded_For", b"Content_Length", b"Transfer_Encoding"],
        ]
    ),
    _TOKENS,
)
_VALUES = st.one_of(
    st.sampled_from(
        [b"", b"a", b"a  b", b"a\t", b" a", b"websocket", b"1.2.3.4, 5.6.7.8", b"chunked", b"close", b"\xff\x80", b"a: b"]
    ),
    st.binary(max_size=12).map(lambda value: bytes(byte for byte in value if byte > 0x1F and byte != 0x7F)),
)
_CONNECTIONS = st.sampled_from(
    [b"close", b"keep-alive", b"Keep-Alive, X-One", b"upgrade", b"x-two,,X-ONE,\tte", b"", b"accept ,CLOSE"]
)
FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=8)
_SOUND_FIELDS = st.builds(
    lambda fields, connections: fields + [(b"Connection", value) for value in connections],
    FIELDS,
    st.lists(_CONNECTIONS, max_size=2),
)
_WILD_FIELDS = st.one_of(
    _SOUND_FIELDS,
    st.lists(
        st.tuples(st.sampled_from([b"Expect", b"Connection", b"Content-Length"]), st.one_of(_VALUES, st.just(b"host"))),
        max_size=2,
    ),
)

# -- bodies

_DATA = st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"abc", b"0\r\n\r\n", b"\r\n"]))
_EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b' ; a = "b\\"; "'])
_TRAILERS = st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"A:\r\nB: \xff\r\n", b"Content-Type: 3\r\n"])


def _chunked(
    sizes: st.SearchStrategy[bytes], extensions: st.SearchStrategy[bytes], trailers: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    """Chunked bodies; an empty size stands for the right one."""
    chunk = st.builds(
        lambda size, extension, data: (size or b"%x" % len(data)) + extension + b"\r\n" + data + b"\r\n", sizes, extensions, _DATA
    )
    last = st.builds(
        lambda zero, extension, trailers: zero + extension + b"\r\n" + trailers + b"\r\n",
        st.sampled_from([b"0", b"0", b"000"]),
        extensions,
        trailers,
    )
    return st.builds(lambda chunks, last: b"".join(chunks) + last, st.lists(chunk, max_size=4), last)


_SOUND_CHUNKED = _chunked(st.just(b""), _EXTENSIONS, _TRAILERS)
_WILD_CHUNKED = _chunked(
    st.sampled_from([b"", b"", b"", b"3", b"003", b"g", b"ffffffffffffffff"]),
    st.one_of(_EXTENSIONS, st.sampled_from([b";", b";a=", b" ", b";a b"])),
    st.one_of(_TRAILERS, st.sampled_from([b"X : 1\r\n", b" x\r\n", b"X\r\n", b"Content-Length: 3\r\n"])),
)

_SOUND_FRAMINGS: st.SearchStrategy[tuple[list[Field], bytes]] = st.one_of(
    st.just(([], b"")),
    st.sampled_from(
        [([(b"Content-Length", b"3")], b"abc"), ([(b"content-length", b"0 ")], b""), ([(b"Content-Length", b"5")], b"abc")]
    ),
    st.tuples(st.sampled_from([[(b"Transfer-Encoding", b"chunked")], [(b"transfer-encoding", b"Chunked ")]]), _SOUND_CHUNKED),
)
_LENGTHS = [b"0", b"3", b"03", b"+3", b"3,3", b"-1", b"18446744073709551617", b"999999999999999999", b"9" * 19, b""]
_CODINGS = [b"chunked", b"gzip", b"gzip, chunked", b"chunked, identity", b"identity", b""]
_WILD_FRAMINGS: st.SearchStrategy[tuple[list[Field], bytes]] = st.tuples(
    st.lists(
        st.one_of(
            st.tuples(st.just(b"Content-Length"), st.sampled_from(_LENGTHS)),
            st.tuples(st.just(b"Transfer-Encoding"), st.sampled_from(_CODINGS)),
        ),
        max_size=2,
    ),
    st.one_of(st.sampled_from([b"", b"abc", b"abcGET / HTTP/1.1\r\n\r\n"]), _WILD_CHUNKED, st.binary(max_size=20)),
)

# -- messages


def _messages(
    lines: st.SearchStrategy[bytes],
    hosts: st.SearchStrategy[list[Field]],
    fields: st.SearchStrategy[list[Field]],
    framings: st.SearchStrategy[tuple[list[Field], bytes]],
) -> st.SearchStrategy[bytes]:
    def message(line: bytes, hosts: list[Field], fields: list[Field], framing: tuple[list[Field], bytes], at: int) -> bytes:
        at %= len(fields) + 1
        lines = [name + b": " + value for name, value in [*hosts, *fields[:at], *framing[0], *fields[at:]]]
        return b"\r\n".join([line, *lines, b"", framing[1]])

    return st.builds(message, lines, hosts, fields, framings, st.integers(0, 9))


@st.composite
def _damaged(draw: st.DrawFn, sound: st.SearchStrategy[bytes]) -> bytes:
    data = draw(sound)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 10]))
        data = data[:start] + draw(st.sampled_from(EVIL)) + data[end:]
    return data


def _wild(sound: st.SearchStrategy[bytes], wild: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(_damaged(sound), _damaged(sound), wild, sound.map(lambda data: b"\r\n" + data), st.binary(max_size=60))


_SOUND_METHODS = [b"GET", b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"QUERY"]
_OTHER_METHODS = [b"FROB", b"get", b"M-SEARCH", b"ANNOUNCE", b"SOURCE", b"GETS", b"!#$%&'*+.^_`|~"]
_SOUND_TARGETS = [
    b"/",
    b"/",
    b"/a/b?c=d?e",
    b"//a",
    b"/%41%zz",
    b'/"<>\\^`{|}',
    b"http://h",
    b"HTTP://Other:81?x",
    b"https://[::1]:1/a",
]
_OTHER_TARGETS = [b"*", b"http://u@h/", b"ftp://h/", b"h:80", b"a", b"/#a", b"/\xc3\xa4", b""]
_SOUND_VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/1.9"]
_OTHER_VERSIONS = [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9"]
_HOSTS = [b"h", b"H.Example.:80", b"[::1]:8080", b"a,b", b"", b"h:99999", b"u@h"]


def _request_lines(methods: list[bytes], targets: list[bytes], versions: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(st.sampled_from(methods), st.sampled_from(targets), st.sampled_from(versions)).map(b" ".join)


SOUND_REQUESTS = st.one_of(
    _messages(
        _request_lines(_SOUND_METHODS + _OTHER_METHODS, _SOUND_TARGETS, _SOUND_VERSIONS),
        st.sampled_from([[(b"Host", host)] for host in _HOSTS[:3]]),
        _SOUND_FIELDS,
        _SOUND_FRAMINGS,
    ),
    _messages(
        _request_lines(_SOUND_METHODS, _SOUND_TARGETS, [b"HTTP/1.0"]),
        st.sampled_from([[], [(b"host", b"h")]]),
        _SOUND_FIELDS,
        st.sampled_from([([], b""), ([(b"Content-Length", b"3")], b"abc")]),
    ),
)
WILD_REQUESTS = _wild(
    SOUND_REQUESTS,
    _messages(
        _request_lines(
            [*_SOUND_METHODS, *_OTHER_METHODS, b"CONNECT", b"PRI"],
            _SOUND_TARGETS + _OTHER_TARGETS,
            _SOUND_VERSIONS + _OTHER_VERSIONS,
        ),
        st.lists(st.tuples(st.just(b"Host"), st.sampled_from(_HOSTS)), max_size=2),
        _WILD_FIELDS,
        _WILD_FRAMINGS,
    ),
)


def _status_lines(versions: list[bytes], statuses: list[bytes], reasons: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda version, status, reason: version + b" " + status + reason,
        st.sampled_from(versions),
        st.sampled_from(statuses),
        st.sampled_from(reasons),
    )


_STATUSES = [b"200", b"200", b"200", b"204", b"205", b"304", b"404", b"503", b"599", b"999"]
_REASONS = [b" OK", b" ", b"", b" Not  Found\xff", b" \t"]
SOUND_RESPONSES = st.one_of(
    _messages(_status_lines([b"HTTP/1.1"], _STATUSES, _REASONS), st.just([]), _SOUND_FIELDS, _SOUND_FRAMINGS),
    _messages(
        _status_lines([b"HTTP/1.0"], _STATUSES, _REASONS),
        st.just([]),
        _SOUND_FIELDS,
        st.sampled_from([([], b"abc"), ([(b"Content-Length", b"3")], b"abc")]),
    ),
)
WILD_RESPONSES = _wild(
    SOUND_RESPONSES,
    _messages(
        _status_lines(
            [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"ICE/1.0"],
            [*_STATUSES, b"100", b"103", b"20", b"099"],
            [*_REASONS, b"OK"],
        ),
        st.just([]),
        _WILD_FIELDS,
        _WILD_FRAMINGS,
    ),
)

CHUNKED_BODIES = st.one_of(_SOUND_CHUNKED, _WILD_CHUNKED, _damaged(_SOUND_CHUNKED), st.binary(max_size=30))
