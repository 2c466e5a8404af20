# SPDX-License-Identifier: Apache-2.0
"""Facts about filters of access logs: what an expression lets through, what is not understood."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.specs import TelemetrySpec
from routing.telemetry import TelemetryRule
from routing.translate._log_filter import MAX_DEPTH, MAX_LENGTH, UnsupportedFilterError, _Reader, read_filter


def passes(expression: str, status: int, duration_s: float = 0.0) -> bool:
    return TelemetryRule(TelemetrySpec(log_filter=read_filter(expression))).passes(status, duration_s)


@pytest.mark.parametrize(
    ("expression", "through", "not_through"),
    [
        ("response.code >= 400", [400, 503], [0, 200, 399]),
        ("response.code == 503", [503], [500, 504]),
        ("response.code != 200", [0, 201], [200]),
        ("400 <= response.code && response.code < 500", [400, 499], [399, 500]),
        ("500<=response.code||response.code==0", [0, 500], [200, 499]),
        ("!(response.code < 400)", [400], [399]),
        ("!(response.code >= 200 && response.code < 300)", [0, 199, 300], [200, 299]),
        ("!(response.code == 200 || response.code == 204)", [201, 500], [200, 204]),
        ("!!(response.code > 400)", [401], [400]),
        ("response.code == 404 || (response.code > 499 && !(response.code == 501))", [404, 500, 502], [403, 501]),
        ("response.code == 1 && (response.code == 1 || response.code == 2)", [1], [2]),
        ("  ", [0, 200], []),
    ],
)
def test_statuses(expression: str, through: list[int], not_through: list[int]) -> None:
    assert all(passes(expression, status) for status in through)
    assert not any(passes(expression, status) for status in not_through)


def test_a_reader_says_where_it_is() -> None:
    assert repr(_Reader(["(", ")"])) == "<_Reader at '('>"


def test_durations() -> None:
    assert passes('request.duration > duration("1.5s")', 200, 1.6)
    assert not passes('request.duration > duration("1.5s")', 200, 1.5)
    assert passes("response.code >= 500 || duration('100ms') <= request.duration", 200, 0.1)
    assert not passes("response.code >= 500 || duration('100ms') <= request.duration", 200, 0.09)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("response.code", "expected a comparison, found 'the end'"),
        ("response.code >=", "'the end' is not supported"),
        ("response.code >= 400 500", "'500' is not expected there"),
        ("(response.code >= 400", "expected ')', found 'the end'"),
        ("response.code >= 400.5", "'.5' is not understood"),
        ("response.code >= duration('1s')", "response.code is compared with a number"),
        ("request.duration > 5", "response.code is compared with a number"),
        ("response.code == response.code", "response.code is compared with a number"),
        ("1 == 1", "response.code is compared with a number"),
        ("request.duration > duration('soon')", "expected a duration"),
        ("request.duration > duration(1)", "expected a duration"),
        ("request.duration > duration '1s'", "expected '('"),
        ("connection.mtls == true", "'connection.mtls' is not supported"),
        ("request.path.contains('x')", "'request.path.contains' is not supported"),
        ("response.code & 1", "'& 1' is not understood"),
        ("response.code >= 4" + "0" * MAX_LENGTH, f"it is longer than {MAX_LENGTH} characters"),
        ("(" * (MAX_DEPTH + 1) + "response.code == 1" + ")" * (MAX_DEPTH + 1), "it is nested too deeply"),
        (" && ".join(["(response.code == 1 || response.code == 2)"] * 7), "it has too many alternatives"),
    ],
)
def test_what_is_not_understood(expression: str, reason: str) -> None:
    with pytest.raises(UnsupportedFilterError) as caught:
        read_filter(expression)
    assert reason in str(caught.value)


_EXPRESSIONS = st.recursive(
    st.builds(
        lambda sign, number, turned: f"{number} {sign} response.code" if turned else f"response.code {sign} {number}",
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.integers(0, 3),
        st.booleans(),
    ),
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        inner.map("!({})".format),
    ),
    max_leaves=6,
)


@given(expression=_EXPRESSIONS, status=st.integers(0, 3))
def test_it_means_what_python_means(expression: str, status: int) -> None:
    plain = expression.replace("&&", " and ").replace("||", " or ").replace("!(", " not (").replace("response.code", "code")
    assert passes(expression, status) == eval(plain, {"code": status})


@given(text=st.text(alphabet="()!&|=<>0123 .'\"resqupondcti", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UnsupportedFilterError):
        assert isinstance(read_filter(text), tuple)
