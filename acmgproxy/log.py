# SPDX-License-Identifier: Apache-2.0
"""The gateway's own log: structured lines on standard error.

JSON, one object a line, when standard error is not a terminal; readable and coloured when it is. Standard output is left to the
access log. Only what an operator may have to act on is worth a line: traffic that fails is counted, not logged. docs/observe.md
lists every event.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import orjson
import structlog

from acmgproxy.log_levels import LEVEL_VARIABLE, Threshold

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, Processor

__all__ = ["LEVEL_VARIABLE", "configure_log"]


def configure_log(
    stream: TextIO | None = None, *, level: int | None = None, threshold: Threshold | None = None
) -> FilteringBoundLogger:
    """Return a logger that writes to `stream`, standard error by default.

    Args:
        stream: Where lines go.
        level: Lines below it are never written, whatever `threshold` says (tests).
        threshold: Says which lines are written, and may change its mind; that of LEVEL_VARIABLE unless given.
    """
    stream = sys.stderr if stream is None else stream
    threshold = Threshold() if threshold is None else threshold
    for_people = stream.isatty()
    processors: list[Processor] = [
        _Filter(threshold),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    if for_people:
        processors.append(structlog.dev.ConsoleRenderer(pad_event_to=0))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream), processors=processors, wrapper_class=structlog.make_filtering_bound_logger(level or 0)
    )
    return logger


class _Filter:
    """Drops lines below a threshold that may change; structlog's own levels are fixed when a logger is made."""

    def __init__(self, threshold: Threshold) -> None:
        self._threshold = threshold

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        if not self._threshold.passes(method):
            raise structlog.DropEvent
        return event


def _to_json(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
