# SPDX-License-Identifier: Apache-2.0
"""What commands say: results on standard output, how it is going on standard error.

On a terminal progress is one line that changes; elsewhere each change is a line of its own, so that a log shows what happened.
Colours follow NO_COLOR and whether somebody looks, as rich decides. Nothing here knows a cluster.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import orjson
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from rich.console import RenderableType

__all__ = ["Progress", "ask", "complain", "print_json", "print_table", "print_yaml", "say", "show", "warn"]

_PLAIN_WIDTH = 10_000
"""Columns of a table that nobody looks at: lines must not be folded for programs."""


def _console(*, stderr: bool = False) -> Console:
    """Make a console of the streams as they are now."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)


def say(text: str = "", *, style: str = "") -> None:
    """Print a line of the result."""
    _console().print(Text(text, style=style), soft_wrap=True)


def warn(text: str) -> None:
    """Print what somebody should know although the command goes on."""
    _console(stderr=True).print(Text("warning: ", style="yellow") + Text(text, style="none"), soft_wrap=True)


def complain(text: str) -> None:
    """Print why the command failed, and what to do next."""
    _console(stderr=True).print(Text("error: ", style="bold red") + Text(text, style="none"), soft_wrap=True)


def ask(question: str) -> bool:
    """Ask whether to go on; anything but y and yes is no. Only for terminals."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def print_json(value: object) -> None:
    """Print a result for programs."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_yaml(value: object) -> None:
    """Print a result for programs, as YAML."""
    print(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True), end="")


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, styles: dict[str, str] | None = None) -> None:
    """Print rows under titles.

    Args:
        titles: One per column.
        rows: The cells.
        styles: Style of a cell, by its text.
    """
    options: dict[str, Any] = {"overflow": "fold"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, **options)
    for row in rows:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in row))
    show(table)


def show(renderable: RenderableType) -> None:
    """Print a table or tree, without blanks at the ends of its lines."""
    console = _console()
    with console.capture() as capture:
        console.print(renderable)
    console.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


class Progress:
    """Says how it is going, once per change. A context manager."""

    def __init__(self) -> None:
        self._console = _console(stderr=True)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._last = ""

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """Tell what is being waited for."""
        if text == self._last:
            return
        self._last = text
        if self._status is not None:
            self._status.update(Text(text))
        else:
            self._console.print(Text(text), soft_wrap=True)
