# SPDX-License-Identifier: Apache-2.0
"""What people ask, in their words: which caller `default/sleep` is, and which listener `reviews:9080`.

A client finds a Service by DNS and connects to its address, and so the listener follows from the URL's host, unless it is said.
Where no gateway listens for the Service, the answer is what would happen if one did, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from routing.explain.model import CallerFacts, ListenerFacts
from routing.explain.near import near_hosts
from routing.names import is_ip_address
from routing.specs import IdentitySpec, ListenerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from routing.specs import Specs, VirtualHostSpec

__all__ = ["SHARED", "Arrival", "Asker", "QuestionError", "find_caller", "find_listener", "split_service"]

SHARED = "shared"
"""Name of the listener that knows the Host only."""

_PLAIN_PORT = 80


class QuestionError(ValueError):
    """A question that cannot be answered, in words that say what to ask instead."""


class Asker(NamedTuple):
    """Who calls: what is said of it, and its identity, None when nothing is known."""

    facts: CallerFacts
    identity: IdentitySpec | None
    note: str = ""


class Arrival(NamedTuple):
    """Where a request comes in."""

    facts: ListenerFacts
    listener: ListenerSpec
    note: str = ""


# Callers.


def find_caller(specs: Specs, text: str, addresses_of: Callable[[str, str], Iterable[str]]) -> Asker:
    """Return the caller that a text names.

    Args:
        specs: The configuration.
        text: An address, `namespace/pod`, `namespace/workload` or `namespace`; "" for an unknown caller.
        addresses_of: Returns the addresses of a pod by namespace and name, none if it is not known.

    Raises:
        QuestionError: there is no such pod or workload.
    """
    if not text:
        return Asker(CallerFacts(known=False), None)
    if is_ip_address(text):
        return _at(specs, text, text, f"no pod is known at {text}: conditions on the caller do not hold")
    namespace, slash, name = text.partition("/")
    if not slash:
        identity = IdentitySpec(namespace=namespace)
        is_there = any(known.namespace == namespace for known in specs.identities.values())
        note = "" if is_there else f"no pod is known in namespace {namespace}; is it spelled right?"
        return Asker(_facts(identity, asked=text), identity, note)
    for address in addresses_of(namespace, name):
        found = _at(specs, address, text, f"pod {text} runs no more, or its address is another pod's, too: it is unknown here")
        if found.identity is not None:
            return found
    return _workload(specs, namespace, name)


def _at(specs: Specs, address: str, asked: str, otherwise: str) -> Asker:
    identity = specs.identities.get(specs.callers.get(address, ""))
    if identity is None:
        return Asker(CallerFacts(known=False, asked=asked, address=address), None, otherwise)
    return Asker(_facts(identity, asked=asked, address=address), identity)


def _workload(specs: Specs, namespace: str, name: str) -> Asker:
    """Return a caller by its workload: pods of a Deployment have names that nobody types."""
    known = {key: specs.identities[key] for key in set(specs.callers.values()) if key in specs.identities}
    here = {key: identity for key, identity in known.items() if identity.namespace == namespace}
    found = sorted(key for key, identity in here.items() if name in {identity.workload, identity.app})
    if not found:
        names = sorted({identity.workload for identity in here.values()} - {"unknown"})
        there_are = f"workloads there are {', '.join(names[:10])}" if names else f"no pod is known in namespace {namespace}"
        raise QuestionError(
            f"no pod and no workload {namespace}/{name} is known; {there_are}. Or name a namespace, or an address"
        )
    address = min(address for address, key in specs.callers.items() if key == found[0])
    note = f"the pods of {namespace}/{name} differ; the answer is for the one at {address}" if len(found) > 1 else ""
    return Asker(_facts(here[found[0]], asked=f"{namespace}/{name}", address=address), here[found[0]], note)


def _facts(identity: IdentitySpec, *, asked: str, address: str = "") -> CallerFacts:
    return CallerFacts(
        known=True,
        asked=asked,
        address=address,
        namespace=identity.namespace,
        workload=identity.workload if identity.workload != "unknown" else "",
        labels=identity.labels,
        locality=identity.locality,
    )


# Listeners.


def find_listener(specs: Specs, *, to: str, host: str, port: int, namespace: str) -> Arrival:
    """Return where a request comes in.

    Args:
        specs: The configuration.
        to: A Service that the client connects to, `service:port`, or the name of a listener; "" to go by the URL.
        host: The URL's host, lower case.
        port: Its port, 0 for none.
        namespace: The caller's, in which short names mean something; "" if unknown.

    Raises:
        QuestionError: no Service has that name, or none that port.
    """
    if to in specs.listeners:
        return _existing(specs.listeners[to])
    if to:
        host, port = split_service(to)
    services = _services(specs, host, namespace)
    if not services:
        if not to and not is_ip_address(host.strip("[]")):
            return _by_host(specs)
        near = near_hosts(specs.virtual_hosts, host, port)
        hint = f"did you mean {' or '.join(near[:3])}?" if near else "`acmgctl config routes` lists the hosts there are"
        raise QuestionError(f"no Service is named {host}{'' if namespace else ' (a short name needs --from)'}; {hint}")
    wanted = port or _PLAIN_PORT
    if wanted in services:
        return _of(specs, services[wanted])
    if port or len(services) > 1:
        there_are = ", ".join(str(number) for number in sorted(services))
        said = f"port {port}" if port else f"port {_PLAIN_PORT}, which a URL without a port means"
        name = next(iter(services.values())).name
        raise QuestionError(f"{name} has no {said}: its ports are {there_are}. Write the port into the URL, or --to")
    ((only, spec),) = services.items()
    arrival = _of(specs, spec)
    note = f"the URL names no port, which means {_PLAIN_PORT}; {spec.name} has {only} alone, so that is what is explained"
    return arrival if to else arrival._replace(note=note)


def split_service(text: str) -> tuple[str, int]:
    """Split `name:port` or `namespace/name:port` into the host that a client would use, lower case, and the port, 0 for none.

    Raises:
        QuestionError: the port is none.
    """
    name, colon, port = text.lower().rpartition(":") if "]" not in text.rpartition(":")[2] else (text, "", "")
    if not colon:
        name, port = text.lower(), "0"
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise QuestionError(f"{port!r} in {text!r} is no port; write SERVICE:PORT, such as reviews.default:9080")
    namespace, slash, service = name.partition("/")
    return (f"{service}.{namespace}" if slash else name).removesuffix("."), int(port)


def _services(specs: Specs, host: str, namespace: str) -> dict[int, VirtualHostSpec]:
    """Return the virtual hosts of the Service that a name means to a caller, by port."""
    found: dict[int, VirtualHostSpec] = {}
    short: dict[int, VirtualHostSpec] = {}
    for spec in specs.virtual_hosts.values():
        if spec.namespace and host in spec.domains:
            found[spec.port] = spec
        elif spec.short_name == host and spec.namespace == namespace:
            short[spec.port] = spec
    return short or found


def _of(specs: Specs, spec: VirtualHostSpec) -> Arrival:
    key = f"{spec.name}:{spec.port}"
    known = next((one for one in specs.listeners.values() if one.virtual_host == key), None)
    if known is not None:
        return _existing(known)
    listener = ListenerSpec(name=key, port=spec.port, binds=(), virtual_host=key)
    return Arrival(ListenerFacts(name=key, port=spec.port, service=spec.name, is_there=False), listener)


def _existing(listener: ListenerSpec) -> Arrival:
    service = listener.virtual_host.rpartition(":")[0]
    facts = ListenerFacts(name=listener.name, port=listener.port, service=service, binds=listener.binds)
    return Arrival(facts, listener)


def _by_host(specs: Specs) -> Arrival:
    """Return the listener for hosts that are no Service."""
    for listener in specs.listeners.values():
        if not listener.port:
            return _existing(listener)
    listener = ListenerSpec(name=SHARED, port=0, binds=())
    return Arrival(ListenerFacts(name=SHARED, port=0, is_there=False), listener)
