# SPDX-License-Identifier: Apache-2.0
"""A worker that dies of requests with the field `x-deadly`.

`segv`, `abrt`, `kill`: by that signal, before the route is known. `late`: by SIGSEGV, when it is known. `exit`: with code 3.
`hang`: a loop that never ends. With DEADLY_START in the environment naming an existing file, it ends as soon as it starts.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acmgproxy.h1.limits import Limits
    from acmgproxy.h1.request import RequestHead


def _die(how: bytes) -> None:
    if how == b"hang":
        while True:
            pass
    if how == b"exit":
        os._exit(3)
    os.kill(
        os.getpid(), {b"segv": signal.SIGSEGV, b"late": signal.SIGSEGV, b"abrt": signal.SIGABRT, b"kill": signal.SIGKILL}[how]
    )


def _how(head: bytes) -> bytes:
    return head.partition(b"x-deadly: ")[2].partition(b"\r\n")[0]


def main() -> int:
    """Run a worker with a deadly parser."""
    from acmgproxy import worker  # noqa: PLC0415
    from acmgproxy.h1.request import parse_request_head  # noqa: PLC0415
    from acmgproxy.io import downstream, exchange  # noqa: PLC0415

    if (bomb := os.environ.get("DEADLY_START")) and Path(bomb).exists():
        return 7
    forward = exchange.Exchange._forward

    def deadly_parse(raw: bytes, limits: Limits) -> RequestHead:
        if (how := _how(raw)) and how != b"late":
            _die(how)
        return parse_request_head(raw, limits)

    def deadly_forward(self: exchange.Exchange, route: object) -> None:
        if b"x-deadly: late" in self.head.lines:
            _die(b"late")
        forward(self, route)  # type: ignore[arg-type]

    downstream.parse_request_head = deadly_parse  # type: ignore[attr-defined]
    exchange.Exchange._forward = deadly_forward  # type: ignore[method-assign]
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
