# SPDX-License-Identifier: Apache-2.0
"""`python -m bench quick ...` is `python -m bench.quick ...`, and the same for `memory`."""

from __future__ import annotations

import sys

from bench import memory, quick

__all__: list[str] = []

_COMMANDS = {"memory": memory.main, "quick": quick.main}


def _main(argv: list[str]) -> int:
    if not argv or argv[0] not in _COMMANDS:
        print(f"usage: python -m bench {{{','.join(_COMMANDS)}}} [options]", file=sys.stderr)
        return 2
    return _COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
