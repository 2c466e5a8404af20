# SPDX-License-Identifier: Apache-2.0
"""Runs a differential tool against the gateway: `python -m tests.h1_tool TOOL CASES [options of the tool]`.

The tool plays client and upstream at once: `TOOL --cases FILE --proxy HOST:PORT --upstream HOST:PORT`. It listens on the
upstream's address itself; a gateway with one Service whose only endpoint is that address runs meanwhile. The exit code is the
tool's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from tests.interop.gateway import Gateway
from tests.interop.upstream import free_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.interop.upstream import Upstream

__all__ = ["main", "run"]


def run(tool: Path, cases: Path, options: Sequence[str]) -> int:
    """Start a gateway, run the tool on it, stop the gateway, and return the tool's exit code."""
    with tempfile.TemporaryDirectory(prefix="h1-") as directory:
        gateway = Gateway(Path(directory))
        address = free_address()
        endpoint = cast("Upstream", SimpleNamespace(address=address))  # nobody listens there before the tool does
        service = gateway.add_service("h1", {"v1": [endpoint]})
        try:
            gateway.start()
            argv = [str(tool)] if os.access(tool, os.X_OK) else [sys.executable, str(tool)]
            argv += ["--cases", str(cases), "--proxy", _text(service.address), "--upstream", _text(address), *options]
            code = subprocess.run(argv, check=False).returncode
            alive = gateway.is_running
        finally:
            gateway.stop()
    if not alive:
        print("the gateway ended before the tool did", file=sys.stderr)
        return code or 1
    return code


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def main() -> int:
    """Run the command line."""
    if len(sys.argv) < 3 or not all(sys.argv[1:3]):
        print("usage: python -m tests.h1_tool TOOL CASES [options of the tool]", file=sys.stderr)
        return 2
    tool, cases = Path(sys.argv[1]), Path(sys.argv[2])
    for path in (tool, cases):
        if not path.is_file():
            print(f"no such file: {path}", file=sys.stderr)
            return 2
    return run(tool.resolve(), cases.resolve(), sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
