# SPDX-License-Identifier: Apache-2.0
"""Facts about what commands print, and how they ask."""

from __future__ import annotations

import io
import sys

import pytest

from acmgproxy.ctl.capture import Target, parse_targets
from acmgproxy.ctl.cluster import CtlError
from acmgproxy.ctl.terminal import Progress, ask, print_table, say


def test_a_table_for_nobody_is_never_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("x", "y" * 300), ("[bold]z", "")], styles={"x": "red"})
    assert capsys.readouterr().out == f"A        B\nx        {'y' * 300}\n[bold]z\n"


def test_progress_is_a_line_per_change_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for text in ("1 of 2", "1 of 2", "2 of 2"):
            progress.say(text)
    assert capsys.readouterr() == ("", "1 of 2\n2 of 2\n")


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_gets_one_line_that_changes_and_colours_unless_it_wants_none(
    monkeypatch: pytest.MonkeyPatch, *, colour: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    say("done", style="green")
    assert ("\x1b[32m" in out.getvalue()) is colour
    with Progress() as progress:
        progress.say("working")
    assert "\x1b[2K" in err.getvalue() or "\r" in err.getvalue()


@pytest.mark.parametrize(("answer", "yes"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)])
def test_only_yes_is_yes(monkeypatch: pytest.MonkeyPatch, answer: str, *, yes: bool) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert ask("Really?") is yes


def test_services_are_named_with_or_without_their_namespace() -> None:
    assert parse_targets(["a", "x/b", "a"], "", "mine") == [Target("mine", "a"), Target("x", "b")]
    assert parse_targets(["a"], "n", "mine") == [Target("n", "a")]
    assert parse_targets(["n/a"], "n", "mine") == [Target("n", "a")]
    assert parse_targets([], "n", "mine") == [Target("n", "")]


@pytest.mark.parametrize(
    ("names", "namespace", "text"),
    [([], "", "name a Service"), (["/a"], "", "is no Service"), (["a/b/c"], "", "is no Service"), (["x/a"], "n", "-n says n")],
)
def test_what_is_no_service_is_refused(names: list[str], namespace: str, text: str) -> None:
    with pytest.raises(CtlError, match=text) as caught:
        parse_targets(names, namespace, "mine")
    assert caught.value.code == 2
