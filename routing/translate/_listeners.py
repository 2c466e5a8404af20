# SPDX-License-Identifier: Apache-2.0
"""Listeners: where the gateway accepts, and which Service port each address stands for.

Two ways, by where the gateway runs. Standing alone it listens on every Service's own address, as far as that is a loopback
address. In a cluster each port of a captured Service has a gateway port, which the Service's shadow names; the same port never
stands for two Services: the older one has it, so that traffic can go nowhere wrong, whatever the controller wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from routing.capture import GATEWAY_PORTS_ANNOTATION, parse_gateway_ports, shadowed
from routing.names import is_loopback, service_fqdn, virtual_host_key
from routing.resources import Service
from routing.specs import ListenerSpec
from routing.translate._hosts import host_addresses

if TYPE_CHECKING:
    from routing.translate._context import Context
    from routing.translate._registry import Registered

__all__ = ["translate_listeners"]

SHARED_LISTENER = "shared"

_FIELD = f"metadata.annotations.{GATEWAY_PORTS_ANNOTATION}"

_Bind = tuple[str, int]


class _Captured(NamedTuple):
    """What a shadow says: by gateway port the listener that its Service would have there."""

    host: Registered
    shadow: Service
    listeners: dict[int, ListenerSpec]

    @property
    def seniority(self) -> tuple[object, ...]:
        """Sort key that tells who goes first: the older Service, of its shadows the older."""
        return self.host.about.meta.age, self.shadow.meta.age


def translate_listeners(context: Context) -> dict[str, ListenerSpec]:
    """Return every listener by name; they follow from the registry and the shadows, which are Services."""
    return context.remember("listeners", "", (context.registry,), lambda: _translate_listeners(context))


def _translate_listeners(context: Context) -> dict[str, ListenerSpec]:
    options = context.options
    listeners: dict[str, ListenerSpec] = {}
    if options.shared_binds:
        listeners[SHARED_LISTENER] = ListenerSpec(name=SHARED_LISTENER, port=0, binds=options.shared_binds)
    if options.listeners == "cluster-ip":
        listeners |= _of_addresses(context)
    elif options.listeners == "gateway-ports":
        listeners |= _of_gateway_ports(context)
    return listeners


def _listener(host: Registered, port: int, binds: tuple[_Bind, ...]) -> ListenerSpec:
    key = virtual_host_key(host.name, port)
    return ListenerSpec(name=key, port=port, binds=binds, virtual_host=key)


def _of_addresses(context: Context) -> dict[str, ListenerSpec]:
    """Return the listeners on the loopback addresses of hosts."""
    listeners: dict[str, ListenerSpec] = {}
    shared = set(context.options.shared_binds)
    taken = set(shared)
    for host in context.registry.in_order:
        addresses = [address for address in host_addresses(host) if is_loopback(address)]
        for port in host.ports if addresses else ():
            wanted = [(address, port.number) for address in addresses]
            if shared.intersection(wanted):
                field = "spec.clusterIP" if isinstance(host.about, Service) else "spec.addresses"
                context.reporter.report("ACMG007", host.about, field, "it is the address of the shared listener")
            # Two hosts with one address and port are reported with their virtual hosts.
            binds = tuple(bind for bind in wanted if bind not in taken)
            taken.update(binds)
            if binds:
                listener = _listener(host, port.number, binds)
                listeners[listener.name] = listener
    return listeners


def _of_gateway_ports(context: Context) -> dict[str, ListenerSpec]:
    """Return the listeners on gateway ports."""
    owners: dict[int, _Captured] = {}
    disputed: dict[int, list[_Captured]] = {}
    for shadow in context.store.shadows.values():
        captured = _captured(context, shadow)
        for gateway_port in captured.listeners if captured is not None else ():
            assert captured is not None
            if gateway_port in owners:
                disputed.setdefault(gateway_port, [owners[gateway_port]]).append(captured)
            else:
                owners[gateway_port] = captured
    for gateway_port, claimants in disputed.items():
        owners[gateway_port] = _eldest(context, gateway_port, claimants)
    listeners: dict[str, ListenerSpec] = {}
    for gateway_port, captured in owners.items():
        listener = captured.listeners[gateway_port]
        other = listeners.get(listener.name)
        if other is not None:  # by another shadow of the Service
            listener = replace(listener, binds=tuple(sorted({*listener.binds, *other.binds})))
        if listener.binds:
            listeners[listener.name] = listener
    return listeners


def _eldest(context: Context, gateway_port: int, claimants: list[_Captured]) -> _Captured:
    """Return whose a gateway port is."""
    eldest, *others = sorted(claimants, key=lambda captured: captured.seniority)
    name = eldest.listeners[gateway_port].name
    for other in others:
        theirs = other.listeners[gateway_port]
        if theirs.name != name:
            lost = f"port {theirs.port} of {other.host.name} is not listened for there"
            context.reporter.report("ACMG026", other.shadow, _FIELD, f"gateway port {gateway_port} belongs to {name}; {lost}")
    return eldest


def _captured(context: Context, shadow: Service) -> _Captured | None:
    """Return what a shadow says, None if that is nothing to go by.

    A port that the Service has no longer is not worth a word: the controller is about to follow.
    """
    key = shadowed(shadow.meta)
    service = context.store.services.get(key) if key is not None else None
    if service is None or service.is_alias:
        message = f"there is no Service {'/'.join(key)} that could be captured" if key else "it does not say whose shadow it is"
        context.reporter.report("ACMG025", shadow, "metadata.labels", message)
        return None
    host = context.registry.hosts[service_fqdn(service.key, context.options.cluster_domain)]
    return context.remember("shadow", shadow.key, (shadow, host), lambda: _read(context, shadow, host))


def _read(context: Context, shadow: Service, host: Registered) -> _Captured | None:
    try:
        ports = parse_gateway_ports(shadow.meta.annotations.get(GATEWAY_PORTS_ANNOTATION, "{}"))
    except ValueError as error:
        context.reporter.report("ACMG024", shadow, _FIELD, str(error))
        return None
    addresses, shared = dict.fromkeys(context.options.gateway_addresses), context.options.shared_binds
    listeners = {}
    for port, gateway_port in ports.items():
        if host.port(port) is not None:
            binds = tuple((address, gateway_port) for address in addresses if (address, gateway_port) not in shared)
            if len(binds) < len(addresses):
                context.reporter.report("ACMG026", shadow, _FIELD, f"gateway port {gateway_port} is the shared listener's")
            listeners[gateway_port] = _listener(host, port, binds)
    return _Captured(host, shadow, listeners)
