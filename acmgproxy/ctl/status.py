# SPDX-License-Identifier: Apache-2.0
"""`acmgctl status`: how acmgproxy is in a cluster, as a table for people or as data for programs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from acmgproxy.ctl.cluster import FAILED, Where, connected, run
from acmgproxy.ctl.overview import look_around
from acmgproxy.ctl.terminal import print_json, print_table, print_yaml, say

if TYPE_CHECKING:
    from acmgproxy.ctl.gateways import GatewayState
    from acmgproxy.ctl.overview import Overview

__all__ = ["StatusOptions", "run_status", "show"]

_STYLES = {"captured": "green", "pending": "yellow", "releasing": "yellow", "refused": "dim", "yes": "green", "no": "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOptions:
    """What the command line says. An empty namespace is all of them."""

    where: Where
    namespace: str
    output: Literal["table", "json", "yaml"]


def run_status(options: StatusOptions) -> int:
    """Show the state; return the exit code, 1 if something is wrong."""
    return run(lambda: _status(options))


async def _status(options: StatusOptions) -> int:
    async with connected(options.where) as client:
        overview = await look_around(client, options.namespace)
    match options.output:
        case "json":
            print_json(msgspec.to_builtins(overview))
        case "yaml":
            print_yaml(msgspec.to_builtins(overview))
        case "table":
            show(overview, now=time.time())
    return 0 if overview.ok else FAILED


def show(overview: Overview, *, now: float) -> None:
    """Print the state for people.

    Args:
        overview: What there is.
        now: Unix time, for ages.
    """
    if not overview.installed:
        say("acmgproxy is not installed in this cluster; `acmgctl install` does it")
    if overview.gateways:
        say("GATEWAYS", style="bold")
        print_table(
            ("POD", "NODE", "ZONE", "READY", "VERSION", "CONFIG", "WORKERS", "LISTENERS", "NOTE"),
            [_gateway_row(one, now) for one in overview.gateways],
            styles=_STYLES,
        )
        say()
    if overview.controller is not None:
        one = overview.controller
        leader = one.leader or "none"
        say(f"CONTROLLER  {one.available} of {one.replicas} available, version {one.version}, leader {leader}")
        say()
    if overview.switched_off:
        say("Capture is switched off for the whole cluster, by the label on the namespace acmg-system", style="yellow")
    if overview.services:
        say("SERVICES", style="bold")
        rows = []
        for entry in overview.services:
            ports = ", ".join(f"{port} -> {gateway_port}" for port, gateway_port in entry.gateway_ports.items())
            rows.append((entry.namespace, entry.name, entry.state, ports or "-", entry.reason or "-"))
        print_table(("NAMESPACE", "SERVICE", "STATE", "PORTS", "WHY"), rows, styles=_STYLES)
    elif overview.installed:
        say("No Service asks for capture; `acmgctl capture SERVICE` does")
    for problem in overview.problems:
        say(f"! {problem}", style="red")


def _gateway_row(one: GatewayState, now: float) -> tuple[str, ...]:
    config = "-" if one.config_version is None else str(one.config_version)
    if one.config_version is not None and one.config_changed_at:
        config += f" ({_age(now - one.config_changed_at)})"
    workers = "-" if one.workers is None else f"{one.workers_up}/{one.workers}"
    listeners = "-" if one.listeners is None else f"{one.listeners_bound}/{one.listeners}"
    ready = "yes" if one.ready else "no"
    return (one.pod, one.node or "-", one.zone or "-", ready, one.version, config, workers, listeners, one.note or "-")


def _age(seconds: float) -> str:
    """Return an age as kubectl writes it: its biggest unit is enough."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"
