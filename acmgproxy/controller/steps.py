# SPDX-License-Identifier: Apache-2.0
"""What to do next about a Service, from the view of it alone.

INVARIANT: at every moment, whatever was written so far and however far behind other controllers are, the union of the Service's
slices has a valid way for every port: a gateway that listens for it and knows its endpoints, or its real endpoints. So a way is
taken away only after another one has been *seen* to cover it:

    the selector key goes in     when gateway slices and direct slices together have all that the native slices have
    gateway and direct slices go when the native slices have all real endpoints (as the shadow's slices list them)
    a port leaves the gateways   when the direct slices have all its real endpoints
    a port leaves direct slices  when the gateway slices have it
    the last gateway leaves      not at all: it stays listed until traffic is direct
    the shadow goes              when no slice has led to its gateway ports for a while (nodes follow late)

Nothing here remembers anything; the same view gives the same plan, and a plan that was carried out in part gives a view whose
plan is the rest. Writes of one plan do not depend on each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from acmgproxy.controller.desired import (
    direct_slices,
    gateway_endpoints,
    gateway_slice,
    is_same_slice,
    shadow_body,
    shadow_patch,
    slice_body,
)
from acmgproxy.controller.gateways import unready_text
from acmgproxy.controller.names import shadow_name
from acmgproxy.controller.view import Facts, Plan, Write, gateway_ports_of
from routing.capture import CAPTURED_KEY, STATUS_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.controller.gateways import Gateway
    from acmgproxy.controller.objects import EndpointSlice, Service, ServicePort
    from acmgproxy.controller.view import View

__all__ = ["PENDING_AFTER_S", "next_writes", "orphan_writes"]

PENDING_AFTER_S = 3.0
"""A capture that takes longer says what it waits for; most take a second, and writing it each time would double the writes."""

BELIEVE_AFTER_S = 30.0
"""How long a port that no slice tells of is taken for one that the cluster has not come to yet."""

FAILS_OPEN = "direct: no gateway is ready; traffic goes straight to the pods until gateways have been ready for a while"


def next_writes(view: View) -> Plan:
    """Decide what to do now."""
    if view.is_frozen:
        return Plan((), "frozen")
    facts = Facts(view)
    if view.verdict.answer != "captured":
        return _release(facts, view.verdict.answer, f"refused: {view.verdict.reason}")
    if view.shadow is not None and not view.shadow.is_going and facts.shadow is None:
        name = view.shadow.meta.name
        return _release(facts, "refused", f"refused: there is a Service {name}, whose name is needed here; rename it")
    if view.fails_open:
        return _release(facts, "direct", FAILS_OPEN)
    return _capture(facts)


def orphan_writes(shadow: Service) -> tuple[Write, ...]:
    """Decide what to do about a shadow whose Service is gone: the garbage collector would, if the shadow still had its owner."""
    if shadow.is_going:
        return ()
    return (_delete("Service", shadow, "shadow-deleted"),)


# --- capture -----------------------------------------------------------------------------------------------------------------


def _capture(facts: Facts) -> Plan:
    served, members = _choose(facts, [port for port in _captured_ports(facts) if port.port in facts.view.ports])
    waits = _waits_for(facts, served)
    is_idle = not facts.has_key and not facts.ready and _is_refilled(facts)
    if (facts.has_key or facts.ours) and (not served or is_idle):
        return _release(facts, "pending", f"pending: {waits}")
    writes = _shadow_writes(facts)
    complete = not waits and bool(served) and bool(members)
    if facts.has_key or facts.gateway_slices or complete:
        writes += _gateway_writes(facts, served, members)
        writes += _direct_writes(facts, served)
    if facts.has_key:
        return _with_status(facts, writes, "captured", "captured" if not waits else f"captured; {waits}")
    if complete and _can_take_key(facts, served, members):
        return Plan((*writes, _key_write(facts, "captured", added=True)), "captured", "captured")
    return _with_status(facts, writes, "pending", f"pending: {waits or 'its slices are being written'}")


def _choose(facts: Facts, ports: list[ServicePort]) -> tuple[list[ServicePort], list[Gateway] | None]:
    """Choose which of the ports gateways serve, and which gateways; None for those that are listed, as there are no others."""
    if not facts.ready:
        return [port for port in ports if facts.is_listed(port)], None
    # The key is in and the gateway slices are gone: anything that works is better than to wait for all.
    restoring = facts.has_key and not facts.gateway_slices
    served = [port for port in ports if _is_served(facts, port, restoring=restoring)]
    # A port that is about to leave is served until it has left.
    leaving = [port for port in facts.service.ports if port not in served and facts.is_listed(port)]
    members = _members(facts, served + leaving) or _members(facts, served)
    if not served:
        return [], None
    if not members:
        best = max(facts.ready, key=lambda gateway: sum(facts.is_bound(gateway, port) for port in served))
        served = [port for port in served if facts.is_bound(best, port)]
        members = [gateway for gateway in facts.ready if all(facts.is_bound(gateway, port) for port in served)]
    return served, members


def _is_served(facts: Facts, port: ServicePort, *, restoring: bool) -> bool:
    if facts.is_listed(port) or restoring:
        return any(facts.is_bound(gateway, port) for gateway in facts.ready)
    return bool(facts.real.to(port.name)) and all(facts.is_prepared(gateway, port) for gateway in facts.ready)


def _members(facts: Facts, served: list[ServicePort]) -> list[Gateway]:
    """Return the gateways to list: those that serve all ports, and to come in they must know endpoints as well."""
    return [
        gateway
        for gateway in facts.ready
        if all(facts.is_bound(gateway, port) if facts.is_member(gateway) else facts.is_prepared(gateway, port) for port in served)
    ]


def _choose_listed(facts: Facts) -> tuple[list[ServicePort], list[Gateway] | None]:
    """Choose for the ports that are in the gateway slices, until these go."""
    return _choose(facts, [port for port in facts.service.ports if facts.is_listed(port)])


def _waits_for(facts: Facts, served: list[ServicePort]) -> str:
    """Say what a capture waits for, "" for nothing."""
    view = facts.view
    if view.ports_problem:
        return view.ports_problem
    if facts.shadow is None or not facts.has_real_slices:
        return f"the endpoints of Service {shadow_name(facts.service.meta.name)} are not known yet"
    ports = _captured_ports(facts)
    if not facts.has_key and not facts.real.covers(facts.native, _names(facts.service.ports)):
        return f"the endpoints of Service {shadow_name(facts.service.meta.name)} are not complete yet"
    if not any(facts.real.to(port.name) for port in ports):
        return "" if facts.has_key else "it has no endpoints: no ready pod matches its selector"
    if not facts.ready:
        return _why_no_gateway(facts)
    for port in ports:
        if port not in served and facts.real.to(port.name):
            return _why_not_served(facts, port)
    return ""


def _why_no_gateway(facts: Facts) -> str:
    ready = [gateway for gateway in facts.view.gateways if gateway.is_ready]
    if ready:
        return f"no gateway has an address of every family of the Service ({', '.join(facts.families)})"
    return f"no gateway is ready: {unready_text(facts.view.gateways)}"


def _why_not_served(facts: Facts, port: ServicePort) -> str:
    for gateway in facts.ready:
        if not facts.is_prepared(gateway, port):
            number = facts.view.ports.get(port.port)
            what = "does not listen" if not facts.is_bound(gateway, port) else "knows no endpoints"
            error = facts.error(gateway, port)
            return f"gateway {gateway.name} {what} for port {port.port} (gateway port {number}){f': {error}' if error else ''}"
    return f"port {port.port} is about to lead to the gateways"


def _can_take_key(facts: Facts, served: list[ServicePort], members: list[Gateway] | None) -> bool:
    """Tell whether nothing is lost when the native slices become empty."""
    wanted = _wanted_gateway_slices(facts, served, members)
    for family in facts.families:
        found = facts.gateway_slices.get(family)
        if found is None or family not in wanted or not is_same_slice(found, wanted[family]) or not found.endpoints:
            return False
    others = [port.name for port in facts.service.ports if port not in served]
    if not all(_is_known(facts, name) for name in others):
        return False
    return facts.direct.covers(facts.native, others) and facts.direct.covers(facts.real, others)


def _is_known(facts: Facts, name: str) -> bool:
    """Tell whether the cluster has looked for a port's endpoints; what it has not found for long is not there.

    No pod may have the container port that a Service names; then no slice ever tells of the port.
    """
    return facts.real.knows(name) or facts.view.waited_s >= BELIEVE_AFTER_S


# --- slices ------------------------------------------------------------------------------------------------------------------


def _wanted_gateway_slices(facts: Facts, served: list[ServicePort], members: list[Gateway] | None) -> dict[str, EndpointSlice]:
    ports = [(port, facts.view.ports[port.port]) for port in served]
    for port in facts.service.ports:
        number = facts.number_listed(port) if port not in served else None
        if number is not None and not _is_direct(facts, port):
            ports.append((port, number))
    wanted = {}
    for family in facts.families:
        if members is None:
            found = facts.gateway_slices.get(family)
            endpoints = found.endpoints if found is not None else ()
        else:
            endpoints = gateway_endpoints(members, family, facts.service)
        if ports and endpoints:
            wanted[family] = gateway_slice(facts.service, family, endpoints, ports)
    return wanted


def _is_direct(facts: Facts, port: ServicePort) -> bool:
    """Tell whether a port no longer needs the gateways: its real endpoints are seen in other slices of the Service."""
    if not facts.has_real_slices or not facts.real.knows(port.name):
        return False
    others = facts.direct if facts.has_key else facts.native
    return others.covers(facts.real, [port.name])


def _gateway_writes(facts: Facts, served: list[ServicePort], members: list[Gateway] | None) -> tuple[Write, ...]:
    wanted = _wanted_gateway_slices(facts, served, members)
    writes = [
        write
        for family, one in wanted.items()
        if (write := _slice_write(facts.gateway_slices.get(family), one, "gateway-slice")) is not None
    ]
    # Slices of a family that the Service no longer has; nothing looks there.
    gone = [one for family, one in facts.gateway_slices.items() if family not in facts.families]
    return (*writes, *(_delete("EndpointSlice", one, "gateway-slice") for one in gone))


def _direct_writes(facts: Facts, served: list[ServicePort]) -> tuple[Write, ...]:
    if not facts.has_real_slices:
        return ()  # what the shadow's slices lack just now may be all there is
    led = {port.name for port in served if _is_led(facts, port)}
    names = frozenset(port.name for port in facts.service.ports if port.name not in led)
    wanted = {one.meta.name: one for one in direct_slices(facts.service, facts.view.shadow_slices, names)}
    found = {one.meta.name: one for one in facts.direct_slices}
    writes = [write for name, one in wanted.items() if (write := _slice_write(found.get(name), one, "direct-slice")) is not None]
    if not writes:
        writes += [
            _delete("EndpointSlice", one, "direct-slice", careful=True) for name, one in found.items() if name not in wanted
        ]
    return tuple(writes)


def _is_led(facts: Facts, port: ServicePort) -> bool:
    """Tell whether a port that gateways serve, or are about to, is seen to have a way without direct slices.

    Without the key the native slices are one, but only once they are full: after a release they may lag behind.
    """
    if facts.is_listed(port) and _is_named(facts, port):
        return True
    return not facts.has_key and facts.real.knows(port.name) and facts.native.covers(facts.real, [port.name])


def _is_named(facts: Facts, port: ServicePort) -> bool:
    """Tell whether the gateway slices have a port under the name it has now."""
    slices = facts.gateway_slices
    return all(family in slices and any(one.name == port.name for one in slices[family].ports) for family in facts.families)


def _slice_write(
    found: EndpointSlice | None, wanted: EndpointSlice, reason: Literal["gateway-slice", "direct-slice"]
) -> Write | None:
    namespace, name = wanted.meta.namespace, wanted.meta.name
    if found is None:
        body = slice_body(wanted)
        return Write(verb="create", kind="EndpointSlice", namespace=namespace, name=name, reason=reason, body=body)
    if found.is_going or is_same_slice(found, wanted):
        return None
    body = slice_body(wanted, resource_version=found.meta.resource_version)
    drops = not {port.name for port in found.ports} <= {port.name for port in wanted.ports}
    return Write(verb="replace", kind="EndpointSlice", namespace=namespace, name=name, reason=reason, body=body, careful=drops)


# --- release -----------------------------------------------------------------------------------------------------------------


def _release(facts: Facts, phase: Literal["unasked", "refused", "pending", "direct"], text: str) -> Plan:
    status = None if phase == "unasked" else text
    keeps_shadow = phase in {"pending", "direct"}
    writes: tuple[Write, ...] = ()
    if facts.has_selector and (facts.ours or facts.has_key or keeps_shadow):
        writes += _shadow_writes(facts)
    if facts.has_key:
        served, members = _choose_listed(facts)
        maintained = _gateway_writes(facts, served, members) if facts.gateway_slices else ()
        return Plan((_key_write(facts, status, added=False), *maintained, *writes), "releasing", status)
    if facts.ours:
        return _with_status(facts, writes + _slice_deletions(facts), "releasing", status, at_once=True)
    retry_s = None
    if facts.shadow is not None and not keeps_shadow:
        if facts.view.recent:
            retry_s = facts.view.linger_s
        else:
            writes += (_delete("Service", facts.shadow, "shadow-deleted", careful=True),)
    plan = _with_status(facts, writes, phase, status, at_once=phase != "pending")
    return plan if retry_s is None else plan._replace(retry_s=retry_s)


def _slice_deletions(facts: Facts) -> tuple[Write, ...]:
    """Delete our slices once the native ones are full again; until then keep them right."""
    if not facts.has_selector or _is_refilled(facts):
        return tuple(_delete("EndpointSlice", one, "slice-deleted", careful=True) for one in facts.ours)
    served, members = _choose_listed(facts)
    return _gateway_writes(facts, served, members) if facts.gateway_slices else ()


def _is_refilled(facts: Facts) -> bool:
    if not facts.native.covers(facts.real, _names(facts.service.ports)):
        return False
    # For what our slices lead to there must be endpoints, unless it is known that there are none.
    led = [port.name for port in facts.service.ports if facts.number_listed(port) is not None or facts.direct.to(port.name)]
    return all(facts.native.to(name) or (facts.has_real_slices and _is_known(facts, name)) for name in led)


# --- the rest ----------------------------------------------------------------------------------------------------------------


def _shadow_writes(facts: Facts) -> tuple[Write, ...]:
    view, service = facts.view, facts.service
    if view.shadow is not None and facts.shadow is None:
        return ()  # somebody else's, or going: then it is made anew once it is gone
    wanted = {port.port for port in _captured_ports(facts)} if view.verdict.answer == "captured" else set[int]()
    kept = {port.port for port in service.ports if facts.number_listed(port) is not None} | view.recent
    known = gateway_ports_of(facts.shadow) if facts.shadow is not None else {}
    ports = {
        port.port: view.ports.get(port.port, known.get(port.port, 0))
        for port in service.ports
        if port.protocol == "TCP" and (port.port in wanted or port.port in kept)
    }
    body = shadow_body(service, {port: number for port, number in ports.items() if number})
    name = body["metadata"]["name"]
    if facts.shadow is None:
        if not wanted and not facts.has_key and not facts.ours:
            return ()
        return (Write(verb="create", kind="Service", namespace=service.meta.namespace, name=name, reason="shadow", body=body),)
    patch = shadow_patch(facts.shadow, body)
    if patch is None:
        return ()
    return (Write(verb="patch", kind="Service", namespace=service.meta.namespace, name=name, reason="shadow", body=patch),)


def _key_write(facts: Facts, status: str | None, *, added: bool) -> Write:
    meta = facts.service.meta
    body: dict[str, Any] = {
        "metadata": {"resourceVersion": meta.resource_version},
        "spec": {"selector": {CAPTURED_KEY: "true" if added else None}},
    }
    if meta.annotations.get(STATUS_ANNOTATION) != status:
        body["metadata"]["annotations"] = {STATUS_ANNOTATION: status}
    return Write(
        verb="patch",
        kind="Service",
        namespace=meta.namespace,
        name=meta.name,
        reason="key-added" if added else "key-removed",
        body=body,
        careful=added,
    )


def _with_status(
    facts: Facts,
    writes: tuple[Write, ...],
    phase: Literal["unasked", "refused", "pending", "captured", "releasing", "direct"],
    status: str | None,
    *,
    at_once: bool = False,
) -> Plan:
    """Return a plan that also writes the status; one that may be different in a second waits."""
    meta = facts.service.meta
    if meta.annotations.get(STATUS_ANNOTATION) == status:
        return Plan(writes, phase, status)
    if not at_once and status != "captured" and facts.view.waited_s < PENDING_AFTER_S:
        return Plan(writes, phase, status, retry_s=PENDING_AFTER_S - facts.view.waited_s)
    body = {"metadata": {"resourceVersion": meta.resource_version, "annotations": {STATUS_ANNOTATION: status}}}
    write = Write(verb="patch", kind="Service", namespace=meta.namespace, name=meta.name, reason="status", body=body)
    return Plan((*writes, write), phase, status)


def _delete(kind: Literal["Service", "EndpointSlice"], found: Any, reason: Any, *, careful: bool = False) -> Write:
    meta = found.meta
    return Write(
        verb="delete",
        kind=kind,
        namespace=meta.namespace,
        name=meta.name,
        reason=reason,
        uid=meta.uid,
        resource_version=meta.resource_version,
        careful=careful,
    )


def _captured_ports(facts: Facts) -> list[ServicePort]:
    wanted = facts.view.verdict.ports
    return [port for port in facts.service.ports if port.protocol == "TCP" and port.port in wanted]


def _names(ports: Iterable[ServicePort]) -> list[str]:
    return [port.name for port in ports]
