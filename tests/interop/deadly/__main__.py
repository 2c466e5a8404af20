# SPDX-License-Identifier: Apache-2.0
"""The command line of the gateway, with the deadly workers."""

from __future__ import annotations

import sys
from functools import partial

from acmgproxy.app import gateway
from acmgproxy.cli import main
from acmgproxy.supervisor import Supervisor

if __name__ == "__main__":
    deadly = partial(Supervisor, command=(sys.executable, "-m", "tests.interop.deadly.worker"))
    gateway.Supervisor = deadly  # type: ignore[assignment,attr-defined]
    main()
