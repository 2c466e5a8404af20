# SPDX-License-Identifier: Apache-2.0
"""The gateway's own log: structured lines on standard error.

JSON, one object a line, when standard error is not a terminal; readable and coloured when it is. Standard output is left to the
access log. Only what an operator may have to act on is worth a line: traffic that fails is counted, not logged.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import orjson
import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["configure_log"]

_INFO = 20


def configure_log(stream: TextIO | None = None, *, level: int = _INFO) -> FilteringBoundLogger:
    """Return a logger that writes to `stream`, standard error by default."""
    stream = sys.stderr if stream is None else stream
    for_people = stream.isatty()
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    if for_people:
        processors.append(structlog.dev.ConsoleRenderer(pad_event_to=0))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(stream), processors=processors, wrapper_class=structlog.make_filtering_bound_logger(level)
    )
    return logger


def _to_json(event: object, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()
