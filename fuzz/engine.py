# SPDX-License-Identifier: Apache-2.0
"""One target under atheris: `python -m fuzz.engine TARGET [libFuzzer options] [corpus]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["acmgproxy.h1", "acmgproxy.io"], enable_loader_override=False):
    from fuzz.targets import TARGETS

__all__ = ["main"]


def main() -> None:
    """Search until something fails or the time is over; libFuzzer ends the process."""
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
