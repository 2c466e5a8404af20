# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.soak` is `python -m bench soak`."""

from __future__ import annotations

import sys

from bench.soak.command import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
