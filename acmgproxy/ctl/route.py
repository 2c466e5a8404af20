# SPDX-License-Identifier: Apache-2.0
"""`acmgctl route`: what happens to a request, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from acmgproxy.ctl.cluster import FAILED, run
from acmgproxy.ctl.explained import outcome, tree_of
from acmgproxy.ctl.origins import explain_there
from acmgproxy.ctl.terminal import print_json, say, show

if TYPE_CHECKING:
    from acmgproxy.asking import Question
    from acmgproxy.ctl.origins import Asked

__all__ = ["run_route"]


def run_route(asked: Asked, question: Question, output: Literal["text", "json"]) -> int:
    """Explain a request; return the exit code: 0 an endpoint answers, 1 the gateway does, 2 there is no telling."""

    async def command() -> int:
        told = await explain_there(asked, question)
        found = told.explanation
        if output == "json":
            notes = (*found.notes, *told.notes)
            print_json({"origin": told.origin, **msgspec.to_builtins(msgspec.structs.replace(found, notes=notes))})
        else:
            show(tree_of(found))
            for note in told.notes:
                say(f"note: {note}", style="yellow")
            say(f"According to {told.origin}", style="dim")
            say(outcome(found), style="bold red" if found.answer is not None and found.answer.status >= 400 else "bold")
        return FAILED if found.answer is not None else 0

    return run(command)
