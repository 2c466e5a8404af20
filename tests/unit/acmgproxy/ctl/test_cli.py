# SPDX-License-Identifier: Apache-2.0
"""Facts about acmgctl's command line: what it asks, and that its document tells all of it."""

from __future__ import annotations

import inspect
import io
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from acmgproxy.ctl import cli, install, uninstall
from acmgproxy.ctl.cluster import CtlError, Where
from tests.unit.acmgproxy.ctl.stub import StubClient

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = (Path(__file__).resolve().parents[4] / "docs" / "acmgctl.md").read_text(encoding="utf-8")
COMMANDS = (
    cli.install, cli.uninstall, cli.generate, cli.capture, cli.release, cli.status, cli.version, cli.analyze, cli.route,
    cli.listeners, cli.routes, cli.clusters, cli.endpoints,
)  # fmt: skip
SHARED = {"cluster": cli.Cluster, "source": cli.Source, "wanted": cli.Wanted}
"""Options that several commands have."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_option_is_documented(command: Callable[..., int]) -> None:
    spelled = {"set_": "--set", "output": "-o", "namespace": "-n", "wait": "--no-wait", "from_": "--from"}
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            names = [field.name for field in fields(SHARED[name])] if name in SHARED else [name]
            assert all(spelled.get(one, "--" + one.replace("_", "-")) in DOCUMENT for one in names)


def test_a_time_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("5x", "0s"):
        monkeypatch.setattr(sys, "argv", ["acmgctl", "install", "--timeout", text])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code not in {0, None}


def test_an_interrupt_before_a_command_begins_is_clean_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130


@pytest.mark.parametrize(("answer", "yes", "goes_on"), [("y\n", False, True), ("n\n", False, False), ("n\n", True, True)])
def test_on_a_terminal_it_asks_unless_told_not_to(
    monkeypatch: pytest.MonkeyPatch, answer: str, *, yes: bool, goes_on: bool
) -> None:
    new = install.InstallOptions(where=Where(), assignments=(), dry_run=False, timeout_s=1.0, yes=yes)
    old = uninstall.UninstallOptions(where=Where(), purge=False, timeout_s=1.0, linger_s=1.0, yes=yes)
    asks: tuple[Callable[[], None], ...] = (
        lambda: install._ask(new, StubClient({}).client),
        lambda: uninstall._ask(old, "2 objects"),
    )
    for ask in asks:
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        if goes_on:
            ask()
            continue
        with pytest.raises(CtlError, match="nothing was changed") as caught:
            ask()
        assert caught.value.code == 2
