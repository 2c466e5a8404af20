# SPDX-License-Identifier: Apache-2.0
"""What a valid ServiceEntry is, as Istio's admission judges it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from routing.names import host_problem, is_ip_address
from routing.resources._base import Problem
from routing.resources._checks import export_problems
from routing.resources._locality_checks import locality_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.service_entry import ServiceEntry, ServiceEntrySpec, WorkloadEndpoint

__all__ = ["service_entry_problems"]

MAX_HOSTS = 256
"""Istio's limit (ServiceEntry CRD)."""


def service_entry_problems(entry: ServiceEntry) -> Iterator[Problem]:
    """Yield what is wrong with `entry`."""
    spec = entry.spec
    yield from export_problems(spec.export_to, entry.meta.namespace, may_hide=True)
    yield from _host_problems(spec)
    yield from _port_problems(spec)
    for index, address in enumerate(spec.addresses):
        if not _is_network(address):
            yield Problem(f"spec.addresses[{index}]", f"{address!r} is neither an IP address nor a range of them")
    yield from _resolution_problems(spec)
    names = {port.name for port in spec.ports}
    for index, endpoint in enumerate(spec.endpoints):
        yield from _endpoint_problems(endpoint, f"spec.endpoints[{index}]", spec, names)


def _host_problems(spec: ServiceEntrySpec) -> Iterator[Problem]:
    if not 1 <= len(spec.hosts) <= MAX_HOSTS:
        yield Problem("spec.hosts", f"there must be 1 to {MAX_HOSTS} hosts")
    for index, host in enumerate(spec.hosts):
        field = f"spec.hosts[{index}]"
        if host == "*":
            yield Problem(field, "`*` is not allowed")
        elif reason := host_problem(host, wildcard=True):
            yield Problem(field, reason)


def _port_problems(spec: ServiceEntrySpec) -> Iterator[Problem]:
    if not spec.ports:
        yield Problem("spec.ports", "there must be at least one port")
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(spec.ports):
        if not port.name or port.name in names:
            yield Problem(f"spec.ports[{index}].name", "must be given, and only once")
        if port.number in numbers:
            yield Problem(f"spec.ports[{index}].number", f"{port.number} is given twice")
        names.add(port.name)
        numbers.add(port.number)


def _is_network(address: str) -> bool:
    try:
        ip_network(address, strict=False)
    except ValueError:
        return False
    return True


def _resolution_problems(spec: ServiceEntrySpec) -> Iterator[Problem]:
    if spec.endpoints and spec.workload_selector is not None:
        yield Problem("spec", "endpoints and workloadSelector exclude each other")
    match spec.resolution:
        case "NONE" | "DYNAMIC_DNS" if spec.endpoints:
            yield Problem("spec.endpoints", f"must not be given with resolution {spec.resolution}")
        case "STATIC" if not spec.endpoints and spec.workload_selector is None:
            yield Problem("spec.endpoints", "resolution STATIC requires endpoints or a workloadSelector")
        case "DNS" | "DNS_ROUND_ROBIN" if not spec.endpoints and any(host.startswith("*") for host in spec.hosts):
            yield Problem("spec.hosts", f"a wildcard with resolution {spec.resolution} requires endpoints")
        case "DNS_ROUND_ROBIN" if len(spec.endpoints) > 1:
            yield Problem("spec.endpoints", "resolution DNS_ROUND_ROBIN allows only one")
        case _:
            pass


def _endpoint_problems(endpoint: WorkloadEndpoint, field: str, spec: ServiceEntrySpec, names: set[str]) -> Iterator[Problem]:
    address = endpoint.address
    if address.startswith("unix://"):
        yield Problem(f"{field}.address", "Unix sockets are not supported")
    elif spec.resolution == "STATIC" and not is_ip_address(address):
        yield Problem(f"{field}.address", f"{address!r} is not an IP address, as resolution STATIC requires")
    elif reason := host_problem(address, wildcard=False):
        yield Problem(f"{field}.address", reason)
    for name in endpoint.ports:
        if name not in names:
            yield Problem(f"{field}.ports.{name}", "there is no port of that name in spec.ports")
    if endpoint.locality and (reason := locality_problem(endpoint.locality, wildcard=False)):
        yield Problem(f"{field}.locality", reason)
