# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest

from routing.limits import Limits
from routing.retry import ResetKind, RetryBudget, RetryPolicy
from routing.specs import ClusterSpec, RetryBudgetSpec, RetrySpec


class Answer:
    def __init__(self, **fields: str) -> None:
        self._fields = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}

    def header(self, name: bytes) -> bytes | None:
        return self._fields.get(name)


def policy(*tokens: str, codes: tuple[int, ...] = (), attempts: int = 2) -> RetryPolicy:
    return RetryPolicy(RetrySpec(attempts=attempts, retry_on=tokens, status_codes=codes))


def statuses(retry: RetryPolicy) -> set[int]:
    return {status for status in range(100, 600) if retry.on_status(status, Answer())}


def resets(retry: RetryPolicy) -> set[str]:
    return {kind for kind in get_args(ResetKind) if retry.on_reset(kind)}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("5xx", set(range(500, 600))),
        ("gateway-error", {502, 503, 504}),
        ("retriable-4xx", {409}),
        ("connect-failure", set()),
        ("reset", set()),
        ("503", {503}),
        ("cancelled", set()),
        ("retriable-headers", set()),
    ],
)
def test_statuses_of_a_token(token: str, expected: set[int]) -> None:
    assert statuses(policy(token)) == expected


def test_status_codes_are_retried() -> None:
    assert statuses(policy("retriable-status-codes", codes=(429, 503))) == {429, 503}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("5xx", set(get_args(ResetKind))),
        ("gateway-error", set(get_args(ResetKind))),
        ("reset", set(get_args(ResetKind))),
        ("reset-before-request", {"connect-failure", "reset-before-request"}),
        ("connect-failure", {"connect-failure"}),
        ("refused-stream", {"refused-stream"}),
        ("retriable-status-codes", set()),
    ],
)
def test_resets_of_a_token(token: str, expected: set[str]) -> None:
    assert resets(policy(token)) == expected


def test_the_default_policy_retries_what_never_reached_the_application() -> None:
    default = RetryPolicy(RetrySpec())
    assert default.attempts == 2
    assert statuses(default) == set()
    assert resets(default) == {"connect-failure", "refused-stream"}
    assert not default.on_status(200, Answer())


@pytest.mark.parametrize("token", ["cancelled", "deadline-exceeded", "resource-exhausted", "internal", "unavailable"])
def test_grpc_tokens_mean_nothing_over_http_1(token: str) -> None:
    assert not policy(token).on_status(200, Answer(grpc_status="14"))
    assert not policy(token).on_status(503, Answer(grpc_status="14"))


def test_an_overloaded_upstream_is_left_alone() -> None:
    assert not policy("5xx", "envoy-ratelimited").on_status(503, Answer(x_envoy_overloaded="true"))


def test_a_rate_limited_answer_is_retried_only_when_asked_for() -> None:
    limited = Answer(x_envoy_ratelimited="true")
    assert not policy("5xx").on_status(503, limited)
    assert policy("5xx", "envoy-ratelimited").on_status(503, limited)
    assert policy("envoy-ratelimited").on_status(429, limited)
    assert not policy("envoy-ratelimited").on_status(429, Answer())


def test_no_attempts_switch_everything_off() -> None:
    off = policy("5xx", "503", "unavailable", codes=(429,), attempts=0)
    assert statuses(off) == set()
    assert resets(off) == set()


def test_backoff_grows_and_is_capped() -> None:
    retry = RetryPolicy(RetrySpec(backoff_base_s=0.025, per_try_timeout_s=2.0))
    assert [retry.backoff_s(number, 1.0) for number in (1, 2, 3, 4, 50)] == pytest.approx([0.025, 0.075, 0.175, 0.25, 0.25])
    assert retry.backoff_s(3, 0.0) == 0.0
    assert retry.backoff_s(1, 0.5) == pytest.approx(0.0125)
    assert retry.per_try_timeout_s == 2.0
    assert retry.ignore_previous_hosts
    assert not retry.remote_localities


def test_repr_tells_the_policy() -> None:
    assert repr(policy("gateway-error", "connect-failure", attempts=0)) == "RetryPolicy(attempts=0, statuses=0, resets=[])"


def test_a_budget_allows_a_few_whatever_the_load() -> None:
    budget = RetryBudget(SimpleNamespace(active=1))
    assert [budget.try_acquire() for _ in range(4)] == [True, True, True, False]
    budget.release()
    assert budget.try_acquire()
    assert repr(budget) == "RetryBudget(3 retries of 1 active)"


def test_a_budget_is_a_share_of_the_active_requests() -> None:
    source = SimpleNamespace(active=50)
    budget = RetryBudget(source, percent=10, minimum=2)
    assert [budget.try_acquire() for _ in range(6)] == [True] * 5 + [False]
    source.active = 60
    assert budget.try_acquire()


def test_a_limit_on_retries_caps_the_budget() -> None:
    budget = RetryBudget(SimpleNamespace(active=1000))
    budget.configure(None, Limits(ClusterSpec(name="c", service="s", max_retries=10), 4), 4)
    assert [budget.try_acquire() for _ in range(5)] == [True] * 3 + [False] * 2
    budget.configure(None, None, 4)
    assert budget.try_acquire()


def test_a_budget_of_its_own_replaces_the_limit_on_retries() -> None:
    budget = RetryBudget(SimpleNamespace(active=100))
    spec = RetryBudgetSpec(percent=8.0, minimum=6)
    budget.configure(spec, Limits(ClusterSpec(name="c", service="s", max_retries=1), 1), 3)
    assert budget.minimum == 2
    assert [budget.try_acquire() for _ in range(10)].count(True) == 8


def test_releasing_what_was_not_acquired_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="released more"):
        RetryBudget(SimpleNamespace(active=0)).release()
