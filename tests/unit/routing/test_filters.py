# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.filters import Answer, Cors, Delayed, Fault, compile_filters
from routing.headers import HeaderError
from routing.regex import RegexError
from routing.specs import CorsSpec, FaultSpec, StringMatch
from tests.unit.routing.table_kit import Head, exact, rule

if TYPE_CHECKING:
    from collections.abc import Callable

ORIGIN = b"https://a.example"
ALLOW = b"access-control-allow-"


def draws(*values: float) -> Callable[[], float]:
    """Return a source that gives these numbers and no more."""
    left = list(values)
    return lambda: left.pop(0)


def preflight(origin: bytes = ORIGIN, **headers: bytes) -> Head:
    asked = {b"access-control-request-method": b"PUT", **{name.replace("_", "-").encode(): v for name, v in headers.items()}}
    return Head(method=b"OPTIONS", headers={b"origin": origin, **asked})


# Faults.


def test_an_abort_is_an_answer() -> None:
    answer = Fault(FaultSpec(abort_status=418, abort_percent=100.0)).on_request(Head(), draws(0.999999))
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, answer.flag, answer.detail) == (418, b"fault filter abort", "FI", "fault_filter_abort")
    assert answer.fields == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(("draw", "aborted"), [(0.0, True), (0.4999, True), (0.5, False), (0.9, False)])
def test_a_percentage_is_a_share_of_the_draws(draw: float, aborted: bool) -> None:
    fault = Fault(FaultSpec(abort_status=503, abort_percent=50.0))
    assert (fault.on_request(Head(), draws(draw)) is not None) is aborted


def test_percentages_have_four_decimals() -> None:
    fault = Fault(FaultSpec(abort_status=503, abort_percent=0.0001))
    assert fault.on_request(Head(), draws(0.0000009)) is not None
    assert fault.on_request(Head(), draws(0.0000011)) is None


@pytest.mark.parametrize(
    ("values", "delay", "abort"), [((0.1, 0.1), True, True), ((0.1, 0.9), True, False), ((0.9, 0.1), False, True)]
)
def test_delay_and_abort_are_drawn_for_themselves(values: tuple[float, ...], delay: bool, abort: bool) -> None:
    fault = Fault(FaultSpec(delay_s=2.5, delay_percent=50.0, abort_status=500, abort_percent=50.0))
    decision = fault.on_request(Head(), draws(*values))
    assert isinstance(decision, Delayed) is delay
    then = decision.then if isinstance(decision, Delayed) else decision
    assert (then is not None) is abort
    if isinstance(decision, Delayed):
        assert (decision.seconds, decision.flag) == (2.5, "DI")


def test_what_cannot_happen_draws_nothing() -> None:
    assert Fault(FaultSpec(delay_s=1.0, abort_status=500)).on_request(Head(), draws()) is None
    assert Fault(FaultSpec(delay_percent=100.0, abort_percent=100.0)).on_request(Head(), draws()) is None


def test_a_fault_leaves_answers_alone() -> None:
    fault = Fault(FaultSpec(abort_status=503, abort_percent=1.0))
    assert fault.on_response(Head()) == ()
    assert fault.response_drop == frozenset()


# CORS.


def cors(*origins: StringMatch, **options: object) -> Cors:
    return Cors(CorsSpec(allow_origins=origins or (exact(ORIGIN.decode()),), **options))  # type: ignore[arg-type]


def test_a_preflight_is_answered_with_the_whole_policy() -> None:
    policy = cors(allow_methods="GET,POST", allow_headers="x-a,x-b", expose_headers="x-c", max_age="600", allow_credentials=True)
    answer = policy.on_request(preflight(), draws())
    assert answer is not None
    assert (answer.status, answer.body, answer.flag, answer.detail) == (200, b"", "-", "cors_response")
    assert answer.fields == [
        (ALLOW + b"origin", ORIGIN),
        (ALLOW + b"credentials", b"true"),
        (ALLOW + b"methods", b"GET,POST"),
        (ALLOW + b"headers", b"x-a,x-b"),
        (b"access-control-max-age", b"600"),
        (b"access-control-expose-headers", b"x-c"),
    ]


def test_an_empty_policy_names_the_origin_only() -> None:
    answer = cors().on_request(preflight(), draws())
    assert answer is not None
    assert answer.fields == [(ALLOW + b"origin", ORIGIN)]


def test_a_star_grants_what_was_asked_for() -> None:
    policy = cors(allow_methods="*", allow_headers="*")
    answer = policy.on_request(preflight(access_control_request_headers=b"x-z"), draws())
    assert answer is not None
    assert answer.fields[1:] == [(ALLOW + b"methods", b"PUT"), (ALLOW + b"headers", b"x-z")]
    answer = policy.on_request(preflight(), draws())
    assert answer is not None
    assert answer.fields[1:] == [(ALLOW + b"methods", b"PUT")]


@pytest.mark.parametrize(
    "head",
    [
        preflight(b"https://b.example"),
        preflight(b""),
        preflight(access_control_request_method=b""),
        Head(method=b"OPTIONS", headers={b"origin": ORIGIN}),
        Head(method=b"OPTIONS", headers={b"access-control-request-method": b"PUT"}),
        Head(method=b"GET", headers={b"origin": ORIGIN, b"access-control-request-method": b"PUT"}),
    ],
    ids=["other origin", "empty origin", "empty method", "no method", "no origin", "no OPTIONS"],
)
def test_everything_else_goes_on(head: Head) -> None:
    assert cors().on_request(head, draws()) is None


def test_an_allowed_origin_may_read_the_answer() -> None:
    policy = cors(expose_headers="x-c", allow_credentials=True, max_age="600", allow_methods="GET")
    assert policy.on_response(Head(headers={b"origin": ORIGIN})) == (
        b"access-control-allow-origin: https://a.example",
        b"access-control-allow-credentials: true",
        b"access-control-expose-headers: x-c",
    )
    assert policy.response_drop == {ALLOW + b"origin", ALLOW + b"credentials", b"access-control-expose-headers"}
    assert policy.on_response(Head(headers={b"origin": b"https://b.example"})) == ()
    assert policy.on_response(Head()) == ()
    assert cors().response_drop == {ALLOW + b"origin"}


@pytest.mark.parametrize(
    ("match", "others"),
    [
        (exact("*"), True),
        (StringMatch(kind="regex", value=".*"), True),
        (StringMatch(kind="prefix", value=""), True),
        (StringMatch(kind="present"), True),
        (StringMatch(kind="prefix", value="https://a."), False),
        (StringMatch(kind="regex", value="https://[a-z]\\.example"), False),
        (exact("https://a.example"), False),
    ],
)
def test_origins(match: StringMatch, others: bool) -> None:
    policy = cors(exact("https://never"), match)
    assert policy.on_response(Head(headers={b"origin": ORIGIN}))[0].endswith(ORIGIN)
    assert bool(policy.on_response(Head(headers={b"origin": b"http://z"}))) is others


def test_a_policy_without_origins_allows_nobody() -> None:
    assert Cors(CorsSpec()).on_response(Head(headers={b"origin": ORIGIN})) == ()


@pytest.mark.parametrize("field", ["allow_methods", "allow_headers", "expose_headers", "max_age"])
def test_a_policy_cannot_smuggle_a_line(field: str) -> None:
    with pytest.raises(HeaderError):
        cors(**{field: "a\r\nx: y"})


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(RegexError):
        cors(StringMatch(kind="regex", value="("))


# The seam.


def test_filters_run_fault_first_and_leave_out_what_has_no_effect() -> None:
    fault, policy = FaultSpec(abort_status=503, abort_percent=1.0), CorsSpec()
    assert compile_filters(rule("r")) == ()
    assert compile_filters(rule("r", fault=FaultSpec(abort_status=503))) == ()
    assert [type(each) for each in compile_filters(rule("r", fault=fault, cors=policy))] == [Fault, Cors]


def test_repr() -> None:
    fault = Fault(FaultSpec(delay_s=1.0, delay_percent=10.0, abort_status=503, abort_percent=0.5))
    assert repr(fault) == "Fault(delay 1.0 s for 10.0000%, abort with 503 for 0.5000%)"
    assert repr(cors()) == "Cors(1 origins)"
    assert repr(cors(exact("*"))) == "Cors(any origin)"
    assert repr(Delayed(1.0, Answer(503, [], b"", detail="d"))) == "Delayed(1.0 s, Answer(503, d))"
