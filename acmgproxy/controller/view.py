# SPDX-License-Identifier: Apache-2.0
"""The view of one Service that steps are decided from, what was decided, and facts that several decisions share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from acmgproxy.controller.coverage import Ways, ways
from acmgproxy.controller.desired import shadow_body, shadow_patch
from acmgproxy.controller.eligibility import Verdict
from acmgproxy.controller.gateways import Gateway, Listener
from acmgproxy.controller.names import is_direct_slice_name, is_gateway_slice_name
from acmgproxy.controller.objects import EndpointSlice, Service
from routing.capture import (
    CAPTURED_KEY,
    GATEWAY_PORTS_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    parse_gateway_ports,
)

if TYPE_CHECKING:
    from acmgproxy.controller.objects import ServicePort

__all__ = ["Facts", "Plan", "View", "Write", "gateway_ports_of", "is_shadow_of"]

Reason = Literal[
    "shadow", "gateway-slice", "direct-slice", "key-added", "key-removed", "slice-deleted", "shadow-deleted", "status"
]


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the cluster.

    Args:
        verb: how.
        kind: of what.
        namespace, name: of which.
        reason: what for; metrics count by it.
        body: what to send; none to delete.
        uid, resource_version: what a deletion expects to find.
        careful: whether it may only be done after a look at the cluster itself: it takes ways away that the watches may be
            behind about.
    """

    verb: Literal["create", "replace", "patch", "delete"]
    kind: Literal["Service", "EndpointSlice"]
    namespace: str
    name: str
    reason: Reason
    body: dict[str, Any] | None = None
    uid: str = ""
    resource_version: str = ""
    careful: bool = False

    @property
    def what(self) -> tuple[str, str, str, str]:
        """What it is, whatever its details."""
        return self.verb, self.kind, self.name, self.reason


class Plan(NamedTuple):
    """What to do now.

    Args:
        writes: in this order; each is right even if those before it fail.
        phase: how far the Service is.
        status: text for its annotation, None for no annotation.
        retry_s: when to look again even if nothing changes, None if there is no need.
    """

    writes: tuple[Write, ...]
    phase: Literal["frozen", "unasked", "refused", "pending", "captured", "releasing", "direct"]
    status: str | None = None
    retry_s: float | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """One Service and everything beside it.

    Args:
        service: which.
        is_frozen: it or its Namespace is being deleted: what is left is the garbage collector's.
        verdict: whether it should be captured.
        ports: gateway ports by Service port, as given.
        ports_problem: why some ports have none, "" if all have.
        shadow: the Service of the shadow's name, whosever it is.
        slices: of the Service.
        shadow_slices: of the shadow.
        gateways: all.
        fails_open: no gateway is ready, or not for long enough.
        waited_s: for how long the plan's phase and status have been the same.
        recent: ports whose gateway ports were in gateway slices a moment ago: not every node has followed yet.
        linger_s: how long such a moment is.
    """

    service: Service
    is_frozen: bool = False
    verdict: Verdict
    ports: Mapping[int, int]
    ports_problem: str = ""
    shadow: Service | None = None
    slices: tuple[EndpointSlice, ...] = ()
    shadow_slices: tuple[EndpointSlice, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    fails_open: bool = False
    waited_s: float = 0.0
    recent: frozenset[int] = frozenset()
    linger_s: float = 0.0


def gateway_ports_of(shadow: Service) -> dict[int, int]:
    """Return what a shadow's annotation says, nothing if it makes no sense."""
    try:
        return parse_gateway_ports(shadow.meta.annotations.get(GATEWAY_PORTS_ANNOTATION, "{}"))
    except ValueError:
        return {}


def is_shadow_of(shadow: Service, service: Service) -> bool:
    """Tell whether a Service is another's shadow, and not somebody's Service of that name."""
    labels = shadow.meta.labels
    if labels.get(SHADOW_LABEL) == "true" and labels.get(SHADOW_OF_LABEL) == service.meta.name:
        return True
    return any(owner.uid == service.meta.uid for owner in shadow.meta.owners)


class Facts:
    """What follows from a view without deciding anything."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.service = view.service
        self.families = view.service.families
        self.has_key = CAPTURED_KEY in view.service.selector
        self.has_selector = view.service.spec.type != "ExternalName" and bool(set(view.service.selector) - {CAPTURED_KEY})
        name = view.service.meta.name
        ours = [one for one in view.slices if one.meta.labels.get(MANAGED_BY_LABEL) == MANAGED_BY]
        self.ours = tuple(ours)
        self.gateway_slices = {one.address_type: one for one in ours if is_gateway_slice_name(name, one.meta.name)}
        self.direct_slices = tuple(one for one in ours if is_direct_slice_name(name, one.meta.name))
        self.ready = tuple(
            one for one in view.gateways if one.is_ready and all(family in one.addresses for family in self.families)
        )

    def __repr__(self) -> str:
        return f"<Facts {'/'.join(self.service.key)} key={self.has_key} ours={len(self.ours)} ready={len(self.ready)}>"

    @cached_property
    def shadow(self) -> Service | None:
        """The shadow, if it is one."""
        shadow = self.view.shadow
        return shadow if shadow is not None and not shadow.is_going and is_shadow_of(shadow, self.service) else None

    @cached_property
    def native(self) -> Ways:
        """Where the Service leads without us."""
        return ways(one for one in self.view.slices if one.meta.labels.get(MANAGED_BY_LABEL) != MANAGED_BY)

    @cached_property
    def real(self) -> Ways:
        """Where the Service would lead: its real endpoints, as the shadow has them."""
        return ways(self.view.shadow_slices)

    @cached_property
    def direct(self) -> Ways:
        """Where the direct slices lead."""
        return ways(self.direct_slices)

    @cached_property
    def listed_addresses(self) -> frozenset[str]:
        """Addresses of the gateways in the gateway slices."""
        slices = self.gateway_slices.values()
        return frozenset(address for one in slices for endpoint in one.endpoints for address in endpoint.addresses)

    @cached_property
    def listed_numbers(self) -> frozenset[int]:
        """Gateway ports that all gateway slices have."""
        slices = self.gateway_slices.values()
        numbers = [{port.port for port in one.ports if port.port is not None} if one.endpoints else set() for one in slices]
        return frozenset(set[int].intersection(*numbers)) if numbers else frozenset()

    @cached_property
    def has_real_slices(self) -> bool:
        """Whether the cluster has looked for the real endpoints: the shadow is as it should be and has slices."""
        known = {one.address_type for one in self.view.shadow_slices}
        return self.shadow is not None and known.issuperset(self.families) and self.shadow_is_right

    @property
    def shadow_is_right(self) -> bool:
        """Whether the shadow selects and names what the Service does; its annotation does not count."""
        assert self.shadow is not None
        patch = shadow_patch(self.shadow, shadow_body(self.service, {}))
        return patch is None or "spec" not in patch

    def is_listed(self, port: ServicePort) -> bool:
        """Tell whether every gateway slice leads this port to its gateway port."""
        return port.protocol == "TCP" and self.view.ports.get(port.port) in self.listed_numbers

    def number_listed(self, port: ServicePort) -> int | None:
        """Return the gateway port that the slices have for a port, be it one it no longer has or under its former name."""
        if self.is_listed(port):
            return self.view.ports[port.port]
        if port.protocol != "TCP":
            return None
        for one in self.gateway_slices.values():
            for entry in one.ports:
                if entry.name == port.name:
                    return entry.port
        return None

    def is_bound(self, gateway: Gateway, port: ServicePort) -> bool:
        """Tell whether a gateway takes connections for a port, in every family of the Service."""
        return all(listener in gateway.bound for listener in self._listeners(port))

    def is_prepared(self, gateway: Gateway, port: ServicePort) -> bool:
        """Tell whether a gateway takes connections for a port and knows where to send requests."""
        bound = gateway.bound
        return all(
            listener in bound and (bound[listener] > 0 or not self.real.to(port.name)) for listener in self._listeners(port)
        )

    def error(self, gateway: Gateway, port: ServicePort) -> str:
        """Return why a gateway does not take connections for a port, "" if it does not say."""
        return next((gateway.errors[one] for one in self._listeners(port) if one in gateway.errors), "")

    def is_member(self, gateway: Gateway) -> bool:
        """Tell whether a gateway is in the gateway slices."""
        return all(gateway.addresses.get(family) in self.listed_addresses for family in self.families)

    def _listeners(self, port: ServicePort) -> list[Listener]:
        number = self.view.ports.get(port.port, 0)
        service = "/".join(self.service.key)
        return [Listener(service, port.port, number, family) for family in self.families]
