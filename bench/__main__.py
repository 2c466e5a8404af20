# SPDX-License-Identifier: Apache-2.0
"""`python -m bench quick ...` is `python -m bench.quick ...`, and so for the other commands."""

from __future__ import annotations

import sys
from importlib import import_module

__all__: list[str] = []

_COMMANDS = ("compare", "document", "full", "memory", "quick", "scale", "scale-document", "soak")

_PACKAGES = {"scale-document": "bench.scale_document", "soak": "bench.soak.command"}
"""Where a command is not in the module of its name: processes that a soak starts must not load the command with it."""


def _main(argv: list[str]) -> int:
    if not argv or argv[0] not in _COMMANDS:
        print(f"usage: python -m bench {{{','.join(_COMMANDS)}}} [options]", file=sys.stderr)
        return 2
    module = _PACKAGES.get(argv[0], f"bench.{argv[0]}")
    status: int = import_module(module).main(argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
