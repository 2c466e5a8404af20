# SPDX-License-Identifier: Apache-2.0
"""`python -m acmgproxy.ctl` is `acmgctl`."""

from __future__ import annotations

from acmgproxy.ctl.cli import main

main()
