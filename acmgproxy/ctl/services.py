# SPDX-License-Identifier: Apache-2.0
"""What becomes of a Service, told as the controller would decide it, and what has become of it, read off the cluster. Pure.

The decision is the controller's own function, so what is told ahead is what happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from acmgproxy.controller import objects as slim
from acmgproxy.controller.eligibility import captured_ports, judge, named_services
from acmgproxy.ctl.cluster import NAMESPACE
from acmgproxy.ctl.traces import is_captured
from routing.capture import CAPTURE_LABEL, GATEWAY_PORTS_ANNOTATION, STATUS_ANNOTATION, parse_gateway_ports

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.controller.eligibility import Verdict
    from acmgproxy.ctl.cluster import Object
    from acmgproxy.ctl.traces import Key, Traces

__all__ = ["PortUse", "ServiceState", "gateway_ports", "judged", "named", "port_uses", "state_of", "with_label"]


class PortUse(NamedTuple):
    """One port of a Service and where it leads once captured."""

    port: int
    name: str
    through_gateway: bool

    def __str__(self) -> str:
        return f"{self.port}{f' ({self.name})' if self.name else ''}"


class ServiceState(NamedTuple):
    """Where a Service stands.

    Args:
        state: `captured`; `pending`, on the way there; `refused`, it cannot be; `releasing`, on the way back; `direct`.
        reason: why it is not captured, or what the controller says.
        ports: gateway ports by Service port.
    """

    state: Literal["captured", "pending", "refused", "releasing", "direct"]
    reason: str
    ports: dict[int, int]


def with_label(obj: Object, value: str | None) -> Object:
    """Return a Service or Namespace as it is once its label asks for capture, or does not."""
    labels = {**(obj["metadata"].get("labels") or {}), CAPTURE_LABEL: value}
    return {**obj, "metadata": {**obj["metadata"], "labels": {key: text for key, text in labels.items() if text is not None}}}


def judged(service: Object, namespace: Object | None, *, is_named: bool = False, is_off: bool = False) -> Verdict:
    """Decide about a Service as the controller does."""
    return judge(
        msgspec.convert(service, slim.Service),
        None if namespace is None else msgspec.convert(namespace, slim.Namespace),
        is_named=is_named,
        system_namespace=NAMESPACE,
        is_off=is_off,
    )


def named(virtual_services: Iterable[Object]) -> dict[Key, str]:
    """Return the Services that VirtualServices ask to capture, with the name of one that does."""
    known = [one for one in map(_readable, virtual_services) if one is not None]
    by_key = {one.key: one for one in known}
    found: dict[Key, str] = {}
    for one in known:
        delegates = [by_key[key] for key in one.delegates if key in by_key]
        for key in named_services(one, delegates):
            found.setdefault(key, "/".join(one.key))
    return found


def _readable(virtual_service: Object) -> slim.VirtualService | None:
    try:
        return msgspec.convert(virtual_service, slim.VirtualService)
    except msgspec.ValidationError:  # the controller passes over it just the same
        return None


def port_uses(service: Object) -> list[PortUse]:
    """Tell of each port of a Service whether the gateways would take it over."""
    seen = msgspec.convert(service, slim.Service)
    through = set(captured_ports(seen))
    return [PortUse(port.port, port.name, port.port in through) for port in seen.ports]


def gateway_ports(shadow: Object | None) -> dict[int, int]:
    """Return what a shadow says; nothing if it says nothing sensible."""
    text = ((shadow or {}).get("metadata") or {}).get("annotations", {}).get(GATEWAY_PORTS_ANNOTATION, "")
    try:
        return parse_gateway_ports(text) if text else {}
    except ValueError:
        return {}


def state_of(service: Object, verdict: Verdict, traces: Traces | None) -> ServiceState:
    """Tell where a Service stands, from what it should be and what there is."""
    said: str = (service["metadata"].get("annotations") or {}).get(STATUS_ANNOTATION, "")
    word, _, reason = said.partition(": ")
    ports = gateway_ports(traces.shadow if traces is not None else None)
    if is_captured(service):
        return ServiceState(
            "captured" if verdict.answer == "captured" else "releasing", said.removeprefix("captured").lstrip("; "), ports
        )
    if verdict.answer == "captured":
        return ServiceState(
            "refused" if word == "refused" else "pending", reason or "the controller has not looked at it yet", ports
        )
    if traces is not None and traces.any:
        return ServiceState("releasing", verdict.reason or "the cluster has not yet listed all its endpoints again", ports)
    return ServiceState("refused", verdict.reason, {}) if verdict.answer == "refused" else ServiceState("direct", "", {})
