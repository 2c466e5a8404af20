# SPDX-License-Identifier: Apache-2.0
"""What the log says about the objects: what is refused, what is found, each once, and what no longer holds.

Findings may take a translation of everything, so they are not looked for after every change but a moment later, once for all
changes in between. After changes that nobody made by hand it is done the more rarely the longer it takes, so that in a large
cluster, whose endpoints change all the time, it takes next to nothing of the supervisor's time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from discovery.objects import SourceProblem
    from routing.diagnostics import Diagnostic

__all__ = ["Reports"]

DIAGNOSE_AFTER_S = 0.2
DIAGNOSE_SHARE = 300
"""After routine changes, looking for findings takes at most this fraction of the time: one second in five minutes."""


class Reports:
    """Says what is new about the objects.

    Args:
        log: where.
        find: looks for findings.
        clock: monotonic seconds.

    Attributes:
        diagnostics: the findings said last.
    """

    def __init__(
        self,
        log: FilteringBoundLogger,
        find: Callable[[], Sequence[Diagnostic]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._find = find
        self._clock = clock
        self._problems: frozenset[SourceProblem] = frozenset()
        self._waiting: asyncio.TimerHandle | None = None
        self._cost_s = 0.0
        self.diagnostics: frozenset[Diagnostic] = frozenset()

    def __repr__(self) -> str:
        return f"<Reports problems={len(self._problems)} diagnostics={len(self.diagnostics)}>"

    def close(self) -> None:
        """Look for nothing more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def say_problems(self, problems: Sequence[SourceProblem]) -> None:
        """Log what is newly refused and what no longer is."""
        if not problems and not self._problems:
            return
        present = frozenset(problems)
        for problem in problems:
            if problem not in self._problems:
                what = {"file": problem.origin, "object": _name(problem), "field": problem.field, "reason": problem.reason}
                self._log.error("refused, the last good version stays in force", **what)
        for solved in self._problems - present:
            self._log.info("no longer refused", file=solved.origin, object=_name(solved), field=solved.field)
        self._problems = present

    def diagnose_soon(self, *, is_routine: bool = False) -> None:
        """Look for findings after a while.

        Args:
            is_routine: only such things changed as change all the time.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + max(DIAGNOSE_AFTER_S, DIAGNOSE_SHARE * self._cost_s if is_routine else 0.0)
        if self._waiting is None or self._waiting.when() > when:
            self.close()
            self._waiting = loop.call_at(when, self.diagnose)

    def diagnose(self) -> None:
        """Log new findings."""
        self.close()
        began = self._clock()
        diagnostics = self._find()
        # Without a new translation it costs nothing, which says nothing about the next time.
        self._cost_s = max(self._clock() - began, self._cost_s / 2)
        for found in diagnostics:
            if found not in self.diagnostics:
                write = {"error": self._log.error, "warning": self._log.warning, "info": self._log.info}[found.severity]
                write(found.message, code=found.code, object=_name(found), field=found.field, remedy=found.remedy)
        self.diagnostics = frozenset(diagnostics)


def _name(about: SourceProblem | Diagnostic) -> str:
    return " ".join(part for part in (about.kind, "/".join(part for part in (about.namespace, about.name) if part)) if part)
