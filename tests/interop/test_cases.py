# SPDX-License-Identifier: Apache-2.0
"""The project's own case files against a real gateway: every field of VirtualService and DestinationRule that it supports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from tests.cases.model import Case, load
from tests.cases.runner import Outcome, run
from tests.cases.world import NotPermittedError

_DIRECTORY = Path(__file__).resolve().parents[1] / "cases"
_FILES = sorted(_DIRECTORY.glob("*.yaml"))


def _run(path: Path) -> list[Outcome]:
    cases = load(path)
    try:
        return uvloop.run(run(cases, worlds=2))
    except NotPermittedError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_every_case_passes(path: Path) -> None:
    outcomes = _run(path)
    failed = {outcome.id: outcome.complaints for outcome in outcomes if outcome.verdict != "passed"}
    assert not failed, "\n".join(f"{name}: {text}" for name, complaints in failed.items() for text in complaints)
    assert outcomes


def test_every_id_is_used_once() -> None:
    cases = [case for path in _FILES for case in load(path)]
    ids = [case.id for case in cases]
    assert all(isinstance(case, Case) for case in cases)
    assert len(ids) == len(set(ids))


_MIXED = """
- id: good
  resources: []
  requests: [{host: b}]
  expect: {status: 200}
- id: wrong
  resources: []
  requests: [{host: b, path: /here}]
  expect: {status: 418, flag: FI}
- {id: misspelt, requests: [{host: b}], expect: {statsu: 200}}
- {id: hr-any, requests: [{host: b}], expect: {status: 200}}
"""


def _command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cases", *map(str, arguments)]
    done = subprocess.run(command, cwd=_DIRECTORY.parents[1], capture_output=True, text=True, timeout=90, check=False)
    if "needs root" in done.stderr:
        pytest.skip(done.stderr.strip())
    return done


def test_command_tells_what_passed_and_what_did_not(tmp_path: Path) -> None:
    file, seen = tmp_path / "mixed.yaml", tmp_path / "seen.json"
    file.write_text(_MIXED, encoding="utf-8")
    done = _command(file, "--json", seen)
    assert done.returncode == 1, done.stderr
    assert [line[:8].strip() for line in done.stdout.splitlines()[:-1] if not line.startswith(" ")] == [
        "passed", "failed", "failed", "not yet"
    ]  # fmt: skip
    assert "request 1 (GET /here Host b from default): status: expected 418, saw 200" in done.stdout
    assert "flag: expected FI, the access log has -" in done.stdout
    assert "unknown field `statsu`" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed, 2 failed (1 not yet)"
    outcomes = json.loads(seen.read_text(encoding="utf-8"))
    assert [outcome["verdict"] for outcome in outcomes] == ["passed", "failed", "failed", "not yet"]
    assert outcomes[0]["requests"][0][0]["status"] == 200


def test_command_runs_one_case_alone(tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    file.write_text(_MIXED, encoding="utf-8")
    done = _command(file, "--only", "good")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 passed, 0 failed"), done.stderr


@pytest.mark.parametrize("arguments", [("nowhere.yaml",), (str(_FILES[0]), "--only", "nothing")])
def test_command_says_why_nothing_was_tried(arguments: tuple[str, ...]) -> None:
    done = _command(*arguments)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert not done.stdout
