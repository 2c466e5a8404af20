# SPDX-License-Identifier: Apache-2.0
"""`acmgctl completion`: what makes a shell complete its commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["run_completion"]


def run_completion(app: App, shell: Literal["bash", "zsh", "fish"]) -> int:
    """Print the script for a shell; return the exit code."""
    print(app.generate_completion(prog_name="acmgctl", shell=shell), end="")
    return 0
