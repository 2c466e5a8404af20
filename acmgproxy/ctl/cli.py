# SPDX-License-Identifier: Apache-2.0
"""The command line `acmgctl`. Options in, exit code out; what a command does is elsewhere and imported when it is called."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import App, Parameter

__all__ = ["app", "main"]


def _version() -> str:
    from acmgproxy.app import release  # noqa: PLC0415 - see the module's docstring

    return release()


app = App(name="acmgctl", help="Looks at the configuration of acmgproxy gateways.", version=_version, version_flags=["--version"])


@app.command
def analyze(
    path: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
) -> int:
    """Say what is wrong with Kubernetes and Istio objects, or means something else here, before a gateway gets them.

    The exit code is 1 if there are errors: objects that would be refused, or whose rules cannot be carried out.

    Args:
        path: A file or directory of YAML and JSON files, or `-` for standard input.
        output: `text` for people, `json` for programs.
    """
    from acmgproxy.ctl.analyze import run_analyze  # noqa: PLC0415 - see the module's docstring

    return run_analyze(path, as_json=output == "json")


def main() -> None:
    """Run the command line; exits with the command's code."""
    app(sys.argv[1:])


if __name__ == "__main__":
    main()
