# SPDX-License-Identifier: Apache-2.0
"""What capture has left in a cluster, by Service, and the view that the controller's own steps need to take it away. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from acmgproxy.controller import objects as slim
from acmgproxy.controller.eligibility import Verdict
from acmgproxy.controller.names import shadow_name
from acmgproxy.controller.view import View, gateway_ports_of
from routing.capture import (
    CAPTURED_KEY,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    SHADOW_LABEL,
    SHADOW_OF_LABEL,
    STATUS_ANNOTATION,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from acmgproxy.ctl.cluster import Object

__all__ = ["Found", "Key", "Traces", "collect", "is_captured", "release_views"]

Key = tuple[str, str]
"""(namespace, name)."""


@dataclass(slots=True, kw_only=True)
class Traces:
    """One Service, if it exists, and what capture has made beside it."""

    key: Key
    service: Object | None = None
    shadow: Object | None = None
    slices: list[Object] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether capture has left anything that leads traffic."""
        return self.shadow is not None or bool(self.slices) or (self.service is not None and is_captured(self.service))


class Found(NamedTuple):
    """What there is to release: Services that exist, and objects of ours whose Service is gone."""

    views: dict[Key, View]
    orphans: list[Object]


def is_captured(service: Object) -> bool:
    """Tell whether a Service's selector has our key, so that its own slices are empty."""
    return CAPTURED_KEY in (service["spec"].get("selector") or {})


def collect(services: Iterable[Object], slices: Iterable[Object]) -> dict[Key, Traces]:
    """Find every Service with traces, be it only that its status says something.

    Args:
        services: All Services of the cluster or of a namespace.
        slices: The slices there that we manage; others do no harm.
    """
    found: dict[Key, Traces] = {}
    plain: dict[Key, Object] = {}
    for service in services:
        metadata = service["metadata"]
        labels = metadata.get("labels") or {}
        if labels.get(SHADOW_LABEL) == "true":
            key = metadata["namespace"], labels.get(SHADOW_OF_LABEL, "")
            found.setdefault(key, Traces(key=key)).shadow = service
        else:
            plain[metadata["namespace"], metadata["name"]] = service
    for one in slices:
        labels = one["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY_LABEL) == MANAGED_BY:
            key = one["metadata"]["namespace"], labels.get(SERVICE_NAME_LABEL, "")
            found.setdefault(key, Traces(key=key)).slices.append(one)
    for key, service in plain.items():
        if key in found or is_captured(service) or STATUS_ANNOTATION in (service["metadata"].get("annotations") or {}):
            found.setdefault(key, Traces(key=key)).service = service
    return found


def release_views(
    services: Sequence[Object], slices: Sequence[Object], *, going: Container[str], lingering: Container[Key], linger_s: float
) -> Found:
    """Return what the controller would see of every Service with traces if nobody asked for capture.

    Args:
        services: All Services of the cluster.
        slices: All its slices.
        going: Namespaces that are being deleted: what is in them is the garbage collector's.
        lingering: Services whose gateway ports a node may still send connections to.
        linger_s: For how long that is.
    """
    by_service: dict[Key, list[slim.EndpointSlice]] = {}
    for one in slices:
        name = (one["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")
        by_service.setdefault((one["metadata"]["namespace"], name), []).append(msgspec.convert(one, slim.EndpointSlice))
    by_key = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
    found = Found({}, [])
    for key, traces in collect(services, slices).items():
        namespace, name = key
        if namespace in going:
            continue
        if traces.service is None:
            found.orphans.extend([*traces.slices, *([traces.shadow] if traces.shadow is not None else [])])
            continue
        shadow_key = namespace, shadow_name(name)
        shadow = msgspec.convert(by_key[shadow_key], slim.Service) if shadow_key in by_key else None
        ports = gateway_ports_of(shadow) if shadow is not None else {}
        found.views[key] = View(
            service=msgspec.convert(traces.service, slim.Service),
            is_frozen=bool(traces.service["metadata"].get("deletionTimestamp")),
            verdict=Verdict("unasked"),
            ports=ports,
            shadow=shadow,
            slices=tuple(by_service.get(key, ())),
            shadow_slices=tuple(by_service.get(shadow_key, ())),
            recent=frozenset(ports) if key in lingering else frozenset(),
            linger_s=linger_s,
        )
    return found
