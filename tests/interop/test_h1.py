# SPDX-License-Identifier: Apache-2.0
"""The runners of `make h1` and `make h1-responses` find what they are for."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import h1_tool
from tests.h1_responses import Case, Got, judge, load, run
from tests.strict_http import read_final_response

ROOT = Path(__file__).resolve().parents[2]
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNFINISHED = WHOLE[:-1]
MALFORMED = WHOLE.replace(b"200", b"2x0")
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nserver: acmgproxy\r\ncontent-length: 0\r\n\r\n"

TOOL = """
import argparse, socket, sys, threading
parser = argparse.ArgumentParser()
for name in ("--cases", "--proxy", "--upstream", "--only"):
    parser.add_argument(name)
options = parser.parse_args()
def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)
listener = socket.create_server(address(options.upstream))
def serve():
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(address(options.proxy), 20)
client.sendall(b"GET / HTTP/1.1\\r\\nHost: any\\r\\n\\r\\n")
answer = client.recv(65536)
print(answer.partition(b" OK")[0].decode(), open(options.cases).read(), options.only)
sys.exit(7)
"""


def test_a_tool_is_run_on_a_gateway_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tool, cases = tmp_path / "tool.py", tmp_path / "cases"
    tool.write_text(TOOL, encoding="utf-8")
    cases.write_text("cases", encoding="utf-8")
    assert h1_tool.run(tool, cases, ["--only", "a/"]) == 7
    assert capfd.readouterr().out == "HTTP/1.1 200 cases a/\n"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["h1_tool", "", ""])
    assert h1_tool.main() == 2
    monkeypatch.setattr(sys, "argv", ["h1_tool", "no-tool", "no-cases"])
    assert h1_tool.main() == 2
    assert "no such file: no-tool" in capsys.readouterr().err


def test_raw_answers_are_judged_on_a_real_gateway() -> None:
    cases = [
        Case("whole", WHOLE, "accept"),
        Case("until-close", b"HTTP/1.1 200 OK\r\n\r\nabc", "accept"),
        Case("unfinished", UNFINISHED, "accept"),
        Case("repairable", b"\r\n" + WHOLE, "accept"),
        Case("malformed", MALFORMED, "reject"),
        Case("cut", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "reject"),
        Case("wrongly-rejected", WHOLE, "reject"),
    ]
    verdicts = {verdict.case.id: verdict for verdict in run(cases)}
    assert {name for name, verdict in verdicts.items() if verdict.problem} == {"wrongly-rejected"}
    assert {name for name, verdict in verdicts.items() if verdict.refused} == {"unfinished", "repairable"}


@pytest.mark.parametrize(
    ("raw", "expect", "got", "problem"),
    [
        (WHOLE, "accept", WHOLE, ""),
        (WHOLE, "accept", REFUSED, "not relayed"),
        (WHOLE, "accept", WHOLE.replace(b"ok", b"no"), "changed"),
        (WHOLE, "reject", WHOLE, "relayed as if whole"),
        (WHOLE, "reject", REFUSED, ""),
        (MALFORMED, "accept", REFUSED, ""),
        (MALFORMED, "accept", WHOLE, "malformed"),
        (UNFINISHED, "accept", WHOLE, "unfinished"),
    ],
)
def test_a_verdict_names_the_problem(raw: bytes, expect: str, got: bytes, problem: str) -> None:
    answer = read_final_response(got, closed=False)
    verdict = judge(Case("x", raw, expect), Got(answer, got, ended=False), closes=True)
    assert bool(verdict.problem) == bool(problem)
    assert problem in verdict.problem


def test_a_file_of_cases_is_run_and_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "cases.json"
    entries = [{"id": name, "raw": base64.b64encode(WHOLE).decode(), "expect": "accept"} for name in ("a/1", "a/2", "b/1")]
    file.write_text(json.dumps(entries), encoding="utf-8")
    argv = [sys.executable, "-m", "tests.h1_responses", str(file), "--only", "a/"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "2 passed, 0 failed\n"), done.stderr
    file.write_text(json.dumps([{**entries[0], "expect": "perhaps"}]), encoding="utf-8")
    with pytest.raises(ValueError, match="accept or reject"):
        load(file)
