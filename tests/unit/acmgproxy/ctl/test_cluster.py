# SPDX-License-Identifier: Apache-2.0
"""Facts about reaching a cluster: exit codes, and errors as one line that says what to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from acmgproxy.ctl.cluster import CtlError, Where, connected, explain, find, list_all, list_kind, run, until
from discovery.kube import VIRTUAL_SERVICES, ApiError, ConfigError, KubeClient
from tests.unit.acmgproxy.ctl.stub import StubClient

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

A, B = {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}


def failing(error: BaseException) -> Coroutine[Any, Any, int]:
    async def command() -> int:
        raise error

    return command()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CtlError("no node"), 1, "error: no node\n"),
        (CtlError("no right", code=2), 2, "error: no right\n"),
        (ConfigError("no kubeconfig; make one"), 2, "error: no kubeconfig; make one\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; what is done stays done, and running the same command again continues\n"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: failing(error)) == code
    assert capsys.readouterr() == ("", text)


def test_an_answer_nobody_expected_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: failing(ApiError(418, "Teapot", "short and stout"))) == 2
    assert capsys.readouterr().err == "error: the API server refuses (418 Teapot): short and stout\n"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "gives no answer: why. Check that"),
        (401, "does not accept these credentials: why. Log in again"),
        (403, "why. Ask an administrator"),
        (409, "why. Somebody else changed"),
        (503, "is in trouble (503): why. Run the command again"),
    ],
)
def test_every_refusal_says_what_to_do(status: int, text: str) -> None:
    assert text in explain(ApiError(status, "Reason", "why."), "https://x")


async def test_what_the_server_refuses_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = StubClient({})

    async def connect(**_options: object) -> StubClient:
        return stub

    monkeypatch.setattr(KubeClient, "connect", connect)
    with pytest.raises(CtlError, match="API server https://stub does not accept") as caught:
        async with connected(Where()):
            raise ApiError(401, "Unauthorized", "who are you?")
    assert caught.value.code == 2
    assert stub.asked["CLOSE", ""]


async def test_an_absent_object_is_none_and_an_absent_kind_has_no_objects() -> None:
    stub = StubClient({("GET", "/bad"): [ApiError(500, "Internal", "x")]})
    assert await find(stub.client, "/there") is None
    assert await list_all(stub.client, "/there") == []
    with pytest.raises(ApiError):
        await find(stub.client, "/bad")
    with pytest.raises(ApiError):
        await list_all(stub.client, "/bad")


async def test_a_long_list_comes_in_pages_and_starts_again_when_it_is_too_old() -> None:
    first, second = {"items": [A], "metadata": {"continue": "c"}}, {"items": [B], "metadata": {}}
    stub = StubClient({("GET", "/l"): [first], ("GET", "/l?continue=c"): [ApiError(410, "Expired", "x"), second]})
    assert await list_all(stub.client, "/l") == [A, B]
    assert len(stub.asked["GET", "/l"]) == 2


async def test_an_older_version_of_a_kind_will_do() -> None:
    stub = StubClient({("GET", "/apis/networking.istio.io/v1beta1/virtualservices"): [{"items": [A]}]})
    assert await list_kind(stub.client, VIRTUAL_SERVICES) == [A]


async def test_waiting_ends_with_yes_or_in_time_and_outlasts_a_sick_server() -> None:
    answers = iter(["error", "no", "yes"])

    async def check() -> bool:
        answer = next(answers)
        if answer == "error":
            raise ApiError(503, "Unavailable", "x")
        return answer == "yes"

    async def never() -> bool:
        await asyncio.sleep(0)
        return False

    async def refused() -> bool:
        raise ApiError(403, "Forbidden", "x")

    assert await until(check, timeout_s=10.0, poll_s=0.0)
    assert not await until(never, timeout_s=0.01, poll_s=0.001)
    with pytest.raises(ApiError):
        await until(refused, timeout_s=10.0)
