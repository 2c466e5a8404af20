# SPDX-License-Identifier: Apache-2.0
"""ServiceEntry: its types. What a valid one is stands in `_service_entry_checks`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from routing.resources._base import Fields, Resource
from routing.resources.core import PortNumber

__all__ = ["EntryPort", "EntrySelector", "ServiceEntry", "ServiceEntrySpec", "WorkloadEndpoint"]


class EntryPort(Fields, frozen=True, kw_only=True):
    """A port of the entry's hosts. Endpoints are reached at `targetPort` unless they say otherwise."""

    number: PortNumber
    name: str
    protocol: str = ""
    target_port: PortNumber | None = None


class WorkloadEndpoint(Fields, frozen=True, kw_only=True):
    """An endpoint: an address or, with DNS resolution, a name. `ports` maps the entry's port names to its own numbers."""

    unsupported: ClassVar[frozenset[str]] = frozenset({"network"})

    address: str = ""
    ports: dict[str, PortNumber] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    locality: str = ""
    weight: Annotated[int, Meta(ge=0, le=4_294_967_295)] = 0
    service_account: str = ""


class EntrySelector(Fields, frozen=True, kw_only=True):
    """The Pods of the entry's namespace that are its endpoints."""

    labels: dict[str, str] = field(default_factory=dict)


class ServiceEntrySpec(Fields, frozen=True, kw_only=True):
    """Hosts that are no Services, and where they are."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[EntryPort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEndpoint, ...] = ()
    workload_selector: EntrySelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntry(Resource, frozen=True, kw_only=True):
    """An Istio ServiceEntry."""

    kind: ClassVar[str] = "ServiceEntry"
    api_versions: ClassVar[tuple[str, ...]] = (
        "networking.istio.io/v1",
        "networking.istio.io/v1beta1",
        "networking.istio.io/v1alpha3",
    )
    unknown: ClassVar[Literal["note", "refuse", "skip"]] = "skip"

    spec: ServiceEntrySpec = field(default_factory=ServiceEntrySpec)
