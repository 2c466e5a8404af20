# SPDX-License-Identifier: Apache-2.0
"""`acmgctl manifest`: what would be installed, without a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NOT_DONE, CtlError
from acmgproxy.ctl.manifests import describe_keys, to_yaml
from acmgproxy.ctl.plan import rendered
from acmgproxy.ctl.terminal import complain, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run_generate", "run_values"]


def run_generate(assignments: Sequence[str]) -> int:
    """Print the objects that values make, as YAML that kubectl applies; return the exit code."""
    try:
        print(to_yaml(rendered(assignments)), end="")
    except CtlError as error:
        complain(str(error))
        return NOT_DONE
    return 0


def run_values() -> int:
    """Print what may be set; return the exit code."""
    print_table(("KEY", "DEFAULT", "MEANING"), describe_keys())
    return 0
