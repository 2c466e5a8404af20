# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from routing.headers import HeaderError, HeaderProgram
from routing.specs import HeaderOps


def test_nothing_to_do_is_none() -> None:
    assert HeaderProgram.for_request() is None
    assert HeaderProgram.for_request(None, HeaderOps()) is None
    assert HeaderProgram.for_response(None) is None


def test_a_level_removes_then_sets_then_adds() -> None:
    program = HeaderProgram.for_request(
        HeaderOps(remove=("x-a", "x-gone"), set=(("x-b", "1"),), add=(("x-a", "2"), ("x-b", "3"), ("x-c", "4")))
    )
    assert program is not None
    assert program.drop == {b"x-a", b"x-gone", b"x-b"}
    assert program.lines == b"x-b: 1\r\nx-a: 2\r\nx-b: 3\r\nx-c: 4\r\n"
    assert program.host == b""


def test_a_later_level_sees_what_an_earlier_one_wrote() -> None:
    program = HeaderProgram.for_response(
        HeaderOps(set=(("x-a", "1"),), add=(("x-b", "1"), ("x-c", "1"))),
        HeaderOps(remove=("x-b",), set=(("x-c", "2"),), add=(("x-a", "2"),)),
    )
    assert program is not None
    assert program.drop == {b"x-a", b"x-b", b"x-c"}
    assert program.lines == b"x-a: 1\r\nx-c: 2\r\nx-a: 2\r\n"


def test_of_two_values_set_the_last_stays() -> None:
    program = HeaderProgram.for_response(HeaderOps(set=(("x-a", "1"), ("x-a", "2"))))
    assert program is not None
    assert program.lines == b"x-a: 2\r\n"


@pytest.mark.parametrize("name", ["host", ":authority"])
def test_host_in_a_request_is_a_rewrite(name: str) -> None:
    program = HeaderProgram.for_request(HeaderOps(set=((name, "a.example"),)))
    assert program is not None
    assert (program.drop, program.lines, program.host) == (frozenset(), b"", b"a.example")
    program = HeaderProgram.for_request(HeaderOps(add=((name, "b.example"),)))
    assert program is not None
    assert program.host == b"b.example"


def test_host_cannot_be_removed() -> None:
    assert HeaderProgram.for_request(HeaderOps(remove=("host",))) is None


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding", "connection", "upgrade"])
def test_framing_is_out_of_reach(name: str) -> None:
    assert HeaderProgram.for_response(HeaderOps(remove=(name,), set=((name, "1"),), add=((name, "1"),))) is None


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\rb", "a\0b"])
def test_a_value_cannot_smuggle_a_line(value: str) -> None:
    with pytest.raises(HeaderError, match="line break or NUL"):
        HeaderProgram.for_request(HeaderOps(set=(("x-a", value),)))
    with pytest.raises(HeaderError, match="line break or NUL"):
        HeaderProgram.for_request(HeaderOps(set=(("host", value),)))


@pytest.mark.parametrize("name", ["", "x a", "x:a", "X-A", "x\r\n", "é"])
def test_a_name_is_a_lower_case_token(name: str) -> None:
    with pytest.raises(HeaderError, match="lower-case token"):
        HeaderProgram.for_response(HeaderOps(add=((name, "1"),)))


def test_repr_shows_the_program() -> None:
    program = HeaderProgram.for_request(HeaderOps(remove=("x-b", "x-a"), set=(("host", "h"),)))
    assert repr(program) == "HeaderProgram(drop=[b'x-a', b'x-b'], lines=b'', host=b'h')"
