# SPDX-License-Identifier: Apache-2.0
"""Facts about shell completion: the scripts are valid, and complete commands and options."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from acmgproxy.ctl import cli

BASH = shutil.which("bash") or ""


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.completion("bash") == 0
    return capsys.readouterr().out


def completed(script: str, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    line = " ".join(words)
    ask = f"""
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
COMP_POINT={len(line)}
$(complete -p acmgctl | sed 's/.*-F \\([^ ]*\\).*/\\1/') acmgctl '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    ran = subprocess.run([BASH, "--norc"], input=script + ask, capture_output=True, text=True, check=True, timeout=30)
    assert not ran.stderr
    return {word.strip() for word in ran.stdout.split("\n")} - {""}


def test_the_script_is_valid(script: str) -> None:
    ran = subprocess.run([BASH, "-n"], input=script, capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_commands_are_completed(script: str) -> None:
    assert {"route", "release"} <= completed(script, "acmgctl", "r")
    assert {"listeners", "routes", "clusters", "endpoints"} <= completed(script, "acmgctl", "config", "")


def test_options_and_their_values_are_completed(script: str) -> None:
    assert {"--config", "--context"} <= completed(script, "acmgctl", "route", "--co")
    assert {"table", "json", "yaml"} <= completed(script, "acmgctl", "config", "routes", "-o", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_scripts_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.completion(shell) == 0  # type: ignore[arg-type]
    script = capsys.readouterr().out
    assert "acmgctl" in script
    assert all(command in script for command in ("route", "config", "analyze"))


def test_the_command_prints_the_script(script: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "acmgproxy.ctl", "completion", "bash"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, script)
