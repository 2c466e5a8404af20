# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl analyze`."""

from __future__ import annotations

import io
import json
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acmgproxy.app import release
from acmgproxy.ctl.analyze import analyze
from acmgproxy.ctl.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = """
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ports: [{name: http, port: 80}]}
"""

ROUTED = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec: {hosts: [b], http: [{route: [{destination: {host: %s}}]}]}
"""

REFUSED = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr}
spec: {host: b, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    def run(*arguments: str, stdin: str = "") -> object:
        monkeypatch.setattr(sys, "argv", ["acmgctl", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code

    return run


def test_good_objects_have_no_findings(run: Callable[..., object], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD + ROUTED % "b", encoding="utf-8")
    assert run("analyze", str(tmp_path)) == 0
    assert capsys.readouterr().out == ""
    assert run("analyze", str(tmp_path / "a.yaml")) == 0
    assert run("analyze", "-", "-o", "json", stdin=GOOD) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_an_empty_directory_has_none_either(run: Callable[..., object], tmp_path: Path) -> None:
    assert run("analyze", str(tmp_path)) == 0


def test_errors_end_with_one_and_come_first(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    unnamed = GOOD.replace("name: http, ", "")
    assert run("analyze", "-", stdin=unnamed + ROUTED % "ghost") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["error", "IST0101", "VirtualService", "default/vs"],
        ["info", "IST0118", "Service", "default/b"],
    ]
    assert "spec.http[0].route[0].destination.host: there is no Service" in lines[0]


def test_infos_alone_are_no_failure(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("analyze", "-", stdin=GOOD.replace("name: http, ", "")) == 0
    assert capsys.readouterr().out.startswith("info IST0118")


def test_objects_that_would_be_refused_and_files_that_cannot_be_read(
    run: Callable[..., object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(GOOD + REFUSED, encoding="utf-8")
    (tmp_path / "b.yaml").write_text("a: [", encoding="utf-8")
    assert run("analyze", "--output", "json", str(tmp_path)) == 1
    refused, unreadable = json.loads(capsys.readouterr().out)
    assert (refused["code"], refused["kind"], refused["name"]) == ("IST0106", "DestinationRule", "dr")
    assert (refused["field"], refused["origin"]) == ("spec.trafficPolicy.tls.mode", "a.yaml (document 2)")
    assert (unreadable["code"], unreadable["kind"], unreadable["origin"]) == ("ACMG000", "", "b.yaml")
    assert run("analyze", str(tmp_path)) == 1
    assert "error ACMG000 b.yaml: line" in capsys.readouterr().out


def test_what_is_not_there_is_said(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("analyze", "/nowhere") == 1
    assert capsys.readouterr().err == "/nowhere: No such file or directory\n"


def test_a_terminal_gets_a_table(
    run: Callable[..., object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("analyze", "-", stdin=GOOD + ROUTED % "ghost" + REFUSED) == 1
    out = capsys.readouterr().out
    assert "CODE" in out
    assert "DestinationRule default/dr" in out
    assert "2 errors, 0 warnings, 0 infos" in out
    assert run("analyze", "-", stdin=GOOD) == 0
    assert "Nothing found." in capsys.readouterr().out


def test_findings_say_where() -> None:
    sample = Path(__file__).resolve().parents[4] / "deploy" / "samples" / "helloworld-laptop"
    assert analyze(str(sample)) == []


def test_the_version(run: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == release()


@pytest.mark.parametrize("module", ["acmgproxy.ctl", "acmgproxy.ctl.cli"])
def test_it_can_be_run_as_a_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["acmgctl", "--version"])
    monkeypatch.delitem(sys.modules, "acmgproxy.ctl.cli")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(module, run_name="__main__")
    assert caught.value.code == 0
