# SPDX-License-Identifier: Apache-2.0
"""Where a rule sends requests or copies of them: from a destination to the names of its clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import cluster_name

if TYPE_CHECKING:
    from routing.resources import VirtualService
    from routing.resources.virtual_service import Destination
    from routing.translate._context import Context
    from routing.translate._registry import Registered

__all__ = ["destination_cluster", "known_destination"]


def destination_cluster(
    context: Context, about: VirtualService, destination: Destination, field: str, port: int
) -> tuple[str, dict[str, str]]:
    """Return a destination's cluster and its variants by the caller's namespace; a name without a cluster if it is unknown.

    Args:
        context: The translation.
        about: The VirtualService.
        destination: The destination.
        field: Its path.
        port: Service port the request arrived on.
    """
    known = known_destination(context, about, destination, field, port)
    if known is not None:
        return known
    number = destination.port.number if destination.port is not None else port
    name = context.named(destination.host, about.meta.namespace).name
    return cluster_name(number, destination.subset, name), {}


def known_destination(
    context: Context, about: VirtualService, destination: Destination, field: str, port: int
) -> tuple[str, dict[str, str]] | None:
    """Return a destination's cluster and its variants by the caller's namespace, None if there is no such host."""
    named = context.resolve(destination.host, about, f"{field}.host")
    host = named.found
    if host is None:
        context.reporter.report("IST0101", about, f"{field}.host", f"there is no Service or ServiceEntry host {named.name}")
        return None
    number = destination.port.number if destination.port is not None else 0
    if number and host.port(number) is None:
        message = f"{host.name} has no TCP port {number}" if not host.external else f"alias {host.name} has no port {number}"
        context.reporter.report("IST0101", about, f"{field}.port.number", message)
    number = number or _implied_port(context, about, host, field, port)
    if destination.subset:
        _check_subset(context, about, destination.subset, f"{field}.subset", host)
    return context.clusters(host, number, destination.subset)


def _implied_port(context: Context, about: VirtualService, host: Registered, field: str, port: int) -> int:
    """Return the port of a destination that names none: the host's only one, else the one the request arrived on."""
    if len(host.ports) == 1:
        return host.ports[0].number
    if host.port(port) is None:
        message = f"{host.name} has several ports and not {port}, which requests arrive on"
        context.reporter.report("IST0112", about, field, message)
    return port


def _check_subset(context: Context, about: VirtualService, subset: str, field: str, host: Registered) -> None:
    if host.pod:
        context.reporter.report("IST0101", about, field, f"{host.name} is a single pod, which has no subsets")
        return
    rules = context.rules(host)
    if subset not in rules.base.subsets:
        context.reporter.report("IST0101", about, field, f"no DestinationRule has a subset {subset!r} of this host")
    for namespace, rule in rules.variants.items():
        if subset not in rule.subsets:
            message = f"the DestinationRule that callers of namespace {namespace} see has no subset {subset!r} of this host"
            context.reporter.report("IST0101", about, field, message)
