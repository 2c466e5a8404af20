# SPDX-License-Identifier: Apache-2.0
"""The command line: `acmgproxy run`, `acmgproxy demo`, `acmgproxy version`.

Options in, exit code out; what a command does is elsewhere and imported when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated, Any

from cyclopts import App, Parameter

__all__ = ["app", "main", "parse_address"]


def parse_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT; an IPv6 address goes in brackets.

    Raises:
        ValueError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"expected HOST:PORT, got {text!r}")
    return host, int(port)


def _check_address(_type: Any, text: str) -> None:
    parse_address(text)


def _check_workers(_type: Any, workers: int | None) -> None:
    if workers is not None and not 1 <= workers <= 1024:
        raise ValueError("expected a number between 1 and 1024")


def _check_port(_type: Any, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ValueError("expected a port, 0 to 65535")


def _check_settings(_type: Any, assignments: tuple[str, ...]) -> None:
    from acmgproxy.assignments import parse_settings  # noqa: PLC0415 - see the module's docstring

    parse_settings(assignments)


def _version() -> str:
    from acmgproxy.app import release  # noqa: PLC0415 - see the module's docstring

    return release()


app = App(name="acmgproxy", help="Centralized HTTP gateway for service meshes.", version=_version, version_flags=["--version"])


@app.command
def run(
    *,
    config: Path,
    workers: Annotated[int | None, Parameter(validator=_check_workers)] = None,
    admin: Annotated[str, Parameter(validator=_check_address)] = "127.0.0.1:15000",
    access_log: Annotated[str, Parameter(allow_leading_hyphen=True)] = "off",
    shared_port: Annotated[int, Parameter(validator=_check_port)] = 15080,
    set: Annotated[tuple[str, ...], Parameter(validator=_check_settings, negative="", show_default=False)] = (),  # noqa: A002 - the option's name
) -> int:
    """Run a gateway on the Kubernetes objects in a directory, and follow their changes.

    It listens on every TCP port of each Service whose clusterIP is a loopback address. Once it serves traffic it says so in one
    line on standard error: the event `ready`, with the URL of the admin server. SIGTERM and Ctrl-C let requests in flight finish.

    Args:
        config: Directory of YAML and JSON files.
        workers: Worker processes; one per processor unless given.
        admin: HOST:PORT of the admin server (health, metrics, configuration); port 0 takes a free one.
        access_log: `off`, `-` for standard output, or the path of a file to append to.
        shared_port: Port on 127.0.0.1 that finds the Service by the Host header alone; 0 for none.
        set: A setting of the workers, NAME=VALUE; may be given several times. docs/standalone.md has the list.
    """
    from acmgproxy.app import RunOptions, run_gateway  # noqa: PLC0415 - see the module's docstring
    from acmgproxy.assignments import parse_settings  # noqa: PLC0415

    return run_gateway(
        RunOptions(
            directory=config,
            workers=workers or len(os.sched_getaffinity(0)),
            admin=parse_address(admin),
            access_log=access_log,
            shared_port=shared_port,
            settings=parse_settings(set),
        )
    )


@app.command
def demo(*, duration: float | None = None, json: bool = False, serve: bool = False) -> int:
    """Show the gateway at work: two versions of a server, a traffic split that changes, a server that dies.

    Args:
        duration: Seconds of traffic.
        json: Print the result as one line of JSON.
        serve: Send no requests; stay up for your own, until Ctrl-C.
    """
    from acmgproxy.demo.command import run_demo  # noqa: PLC0415 - see the module's docstring
    from acmgproxy.demo.scenario import DEFAULT_DURATION_S  # noqa: PLC0415

    return run_demo(duration_s=DEFAULT_DURATION_S if duration is None else duration, as_json=json, serve=serve)


@app.command
def version() -> None:
    """Print the version."""
    print(_version())


def main() -> None:
    """Run the command line; exits with the command's code."""
    app(sys.argv[1:])


if __name__ == "__main__":
    main()
