# SPDX-License-Identifier: Apache-2.0
"""`python -m acmgproxy` is the command `acmgproxy`."""

from __future__ import annotations

from acmgproxy.cli import main

if __name__ == "__main__":
    main()
