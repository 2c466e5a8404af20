# SPDX-License-Identifier: Apache-2.0
"""Facts about the gateway's log."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from acmgproxy.log import LEVEL_VARIABLE, configure_log
from acmgproxy.log_levels import Threshold


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_json_when_nobody_watches() -> None:
    stream = io.StringIO()
    log = configure_log(stream)
    log.info("ready", admin="http://127.0.0.1:1", where=Path("/x"))
    log.debug("unseen")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["admin"], line["where"]) == ("ready", "info", "http://127.0.0.1:1", "/x")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("text", "written"), [("debug", 3), ("WARNING", 1), ("error", 0), ("loud", 2), ("", 2)])
def test_level_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, written: int) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, text)
    stream = io.StringIO()
    log = configure_log(stream)
    log.debug("one")
    log.info("two")
    log.warning("three")
    assert len(stream.getvalue().splitlines()) == written


def test_lines_are_for_people_on_a_terminal() -> None:
    stream = Terminal()
    configure_log(stream).info("ready", admin="here")
    assert "ready" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_exceptions_are_part_of_the_line() -> None:
    stream = io.StringIO()
    log = configure_log(stream)
    try:
        int("odd")
    except ValueError:
        log.exception("failed")
    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["exception"]


def test_the_log_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log().info("ready")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "ready"
    assert not captured.out


def test_the_level_may_change_at_any_time() -> None:
    stream, threshold = io.StringIO(), Threshold("warning")
    log = configure_log(stream, threshold=threshold)
    log.info("one")
    threshold.level = "debug"
    log.debug("two")
    threshold.level = "error"
    log.warning("three")
    log.error("four")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["two", "four"]
    assert repr(threshold) == "Threshold('error')"
