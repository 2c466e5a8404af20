# SPDX-License-Identifier: Apache-2.0
"""Exit codes and what is printed where; the demo itself runs in tests/interop/test_demo.py."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from acmgproxy.demo import command, sample
from acmgproxy.demo.scenario import Phase, Result

if TYPE_CHECKING:
    from acmgproxy.demo.traffic import Tally
    from acmgproxy.demo.view import View

GOOD = Result(
    requests=100,
    failed=0,
    phases=(Phase(title="split", weights=(90, 10), observed=(91.0, 9.0), counts=(91, 9), failed=0),),
    p50_ms=0.5,
    p99_ms=2.5,
    retries=4,
    live_after_ms=20.0,
    duration_s=3.0,
    failures=(),
    problems=(),
)
FAILED = replace(GOOD, failed=2, failures=("503 'no healthy upstream'",))
ODD = replace(GOOD, problems=("split (90, 10): no answers",))


def _result(monkeypatch: pytest.MonkeyPatch, result: Result) -> None:
    async def play(view: View, tally: Tally, duration_s: float) -> Result:
        assert duration_s == 3
        view.event(f"{tally.requests} requests so far")
        return result

    monkeypatch.setattr(command, "play", play)


def test_good_result_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _result(monkeypatch, GOOD)
    assert command.run_demo(duration_s=3) == 0
    out = capsys.readouterr().out
    assert "0 requests so far" in out
    assert "100 requests, 4 retries, p50 0.5 ms, p99 2.5 ms: no request failed" in out


@pytest.mark.parametrize(("result", "reason"), [(FAILED, "503 'no healthy upstream'"), (ODD, "no answers")])
def test_anything_wrong_is_exit_code_1_with_the_reason(
    result: Result, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _result(monkeypatch, result)
    assert command.run_demo(duration_s=3) == 1
    assert reason in capsys.readouterr().out


def test_json_is_alone_on_standard_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _result(monkeypatch, GOOD)
    assert command.run_demo(duration_s=3, as_json=True) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert (result["requests"], result["failed"], result["p50_ms"], result["p99_ms"]) == (100, 0, 0.5, 2.5)
    assert result["phases"][0]["weights"] == [90, 10]
    assert result["phases"][0]["observed"] == [91.0, 9.0]
    assert "no request failed" in err


@pytest.mark.parametrize("serve", [False, True])
def test_what_makes_it_impossible_is_said(
    serve: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sample, "_candidates", lambda: iter(()))
    assert command.run_demo(duration_s=3, serve=serve) == 1
    assert "acmgproxy demo: no free loopback addresses found" in capsys.readouterr().out
