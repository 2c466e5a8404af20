# SPDX-License-Identifier: Apache-2.0
"""The command line: `acmgproxy run`, `acmgproxy demo`, `acmgproxy version`.

Options in, exit code out; what a command does is elsewhere and imported when it is called, so that `--help` is quick.
"""

from __future__ import annotations

import os
import platform
import sys
from ipaddress import ip_address
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from acmgproxy.app import KubernetesOptions

__all__ = ["app", "main", "parse_address"]

HEALTH_PORT = 15021
"""Of gateways in a cluster, as in Istio."""


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
    from acmgproxy.release import release  # noqa: PLC0415 - see the module's docstring

    return release()


app = App(name="acmgproxy", help="Centralized HTTP gateway for service meshes.", version=_version, version_flags=["--version"])


def _check_health(_type: Any, text: str | None) -> None:
    if text is not None:
        parse_address(text)


def _check_listen(_type: Any, addresses: tuple[str, ...] | None) -> None:
    for address in addresses or ():
        ip_address(address)


@app.command
def run(
    *,
    config: Path | None = None,
    kubernetes: Annotated[bool, Parameter(negative="")] = False,
    kubeconfig: Path | None = None,
    context: str | None = None,
    listen: Annotated[tuple[str, ...] | None, Parameter(validator=_check_listen, negative="")] = None,
    workers: Annotated[int | None, Parameter(validator=_check_workers)] = None,
    health: Annotated[str | None, Parameter(validator=_check_health)] = None,
    admin: Annotated[str, Parameter(validator=_check_address)] = "127.0.0.1:15000",
    access_log: Annotated[str, Parameter(allow_leading_hyphen=True)] = "off",
    shared_port: Annotated[int, Parameter(validator=_check_port)] = 15080,
    set: Annotated[tuple[str, ...], Parameter(validator=_check_settings, negative="", show_default=False)] = (),  # noqa: A002 - the option's name
) -> int:
    """Run a gateway on the objects in a directory or in a cluster, and follow their changes.

    With `--config` it listens on every TCP port of each Service whose clusterIP is a loopback address, with `--kubernetes` on the
    gateway ports of captured Services. Once it serves traffic it says so in one line on standard error: the event `ready`, with
    the URL of the admin server. SIGTERM and Ctrl-C let requests in flight finish.

    Args:
        config: Directory of YAML and JSON files.
        kubernetes: Watch a cluster: the one this pod runs in, unless a kubeconfig says otherwise.
        kubeconfig: File with the cluster's address and credentials.
        context: Context of the kubeconfig; its current one unless given.
        listen: Address for gateway ports and the shared port in a cluster; may be given several times. Unless given, those in the
            environment variable POD_IPS (with commas between them), else 0.0.0.0.
        workers: Worker processes; one per processor that may be used unless given.
        health: HOST:PORT of a server with health, metrics and listeners only. In a cluster port 15021 of all addresses unless
            given.
        admin: HOST:PORT of the admin server (the same, and the configuration); port 0 takes a free one.
        access_log: `off`, `-` for standard output, or the path of a file to append to.
        shared_port: Port that finds the Service by the Host header alone, on 127.0.0.1 or in a cluster on every `--listen`; 0 for
            none.
        set: A setting of the workers, NAME=VALUE; may be given several times. docs/standalone.md has the list.
    """
    from acmgproxy.app import RunOptions, run_gateway  # noqa: PLC0415 - see the module's docstring
    from acmgproxy.assignments import parse_settings  # noqa: PLC0415
    from acmgproxy.processors import usable_processors  # noqa: PLC0415
    from acmgproxy.settings import KUBERNETES_DRAIN_ACCEPT_S, ProxySettings  # noqa: PLC0415

    if mistake := _source_mistake(config, kubernetes=kubernetes, only_kubernetes=(kubeconfig, context, listen)):
        print(f"acmgproxy run: {mistake}", file=sys.stderr)
        return 2
    addresses = listen or _pod_addresses() or ("0.0.0.0",)  # noqa: S104 - pods address a gateway by its pod's address
    health = health or (_default_health(addresses) if kubernetes else None)
    return run_gateway(
        RunOptions(
            directory=config,
            kubernetes=_cluster(kubeconfig, context, addresses) if kubernetes else None,
            workers=workers or usable_processors(),
            admin=parse_address(admin),
            health=parse_address(health) if health is not None else None,
            access_log=access_log,
            shared_port=shared_port,
            settings=parse_settings(set, ProxySettings(drain_accept_s=KUBERNETES_DRAIN_ACCEPT_S) if kubernetes else None),
        )
    )


def _source_mistake(config: Path | None, *, kubernetes: bool, only_kubernetes: tuple[object, ...]) -> str:
    """Return what is wrong with the choice of the source of objects, "" if nothing is."""
    if kubernetes and config is not None:
        return "--config and --kubernetes exclude each other: a gateway has one source of objects; leave one of them out"
    if not kubernetes and config is None:
        return "nothing to run on; give --config DIR for objects in files, or --kubernetes for those of a cluster"
    if not kubernetes and any(only_kubernetes):
        return "--kubeconfig, --context and --listen belong to --kubernetes; leave them out, or --config"
    return ""


def _cluster(kubeconfig: Path | None, context: str | None, listen: tuple[str, ...]) -> KubernetesOptions:
    from acmgproxy.app import KubernetesOptions  # noqa: PLC0415 - see the module's docstring

    return KubernetesOptions(kubeconfig=kubeconfig, context=context, listen=listen)


def _pod_addresses() -> tuple[str, ...]:
    """Return the pod's addresses, which a manifest hands over by the downward API (status.podIPs)."""
    return tuple(address for address in (part.strip() for part in os.environ.get("POD_IPS", "").split(",")) if address)


def _default_health(listen: tuple[str, ...]) -> str:
    """Return where health is told in a cluster: at all addresses, of both families where the gateway has an IPv6 address."""
    return f"{'[::]' if any(':' in address for address in listen) else '0.0.0.0'}:{HEALTH_PORT}"  # noqa: S104 - probes come from the node


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
def controller(
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    namespace: str = "acmg-system",
    health: Annotated[str, Parameter(validator=_check_address)] = f"0.0.0.0:{HEALTH_PORT}",
    identity: str | None = None,
) -> int:
    """Run a controller: it makes the ClusterIPs of Services that ask for it lead to the gateways.

    Of several replicas one writes; SIGTERM hands over to another at once and leaves every Service as it is.

    Args:
        kubeconfig: File with the cluster's address and credentials; the pod's service account unless given.
        context: Context of the kubeconfig; its current one unless given.
        namespace: Namespace of the gateways.
        health: HOST:PORT of the server with health and metrics; port 0 takes a free one.
        identity: Name of this replica, unlike that of any other. Unless given, what the environment variable POD_NAME says, else
            the name of the host.
    """
    from acmgproxy.controller.app import run_controller  # noqa: PLC0415 - see the module's docstring
    from acmgproxy.controller.options import ControllerOptions  # noqa: PLC0415

    return run_controller(
        ControllerOptions(
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            health=parse_address(health),
            identity=identity or os.environ.get("POD_NAME") or platform.node(),
        )
    )


@app.command
def version() -> None:
    """Print the version."""
    print(_version())


def main() -> None:
    """Run the command line; exits with the command's code."""
    app(sys.argv[1:])


if __name__ == "__main__":
    main()
