# SPDX-License-Identifier: Apache-2.0
"""Findings about single objects: what they give that has no effect, and names that lead nowhere.

What is to be said about the policies of DestinationRules is in `_policy_findings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.names import is_ip_address, port_protocol
from routing.translate._endpoints import ADDRESS_TYPES

if TYPE_CHECKING:
    from routing.diagnostics import Reporter
    from routing.resources import Resource, Service, ServiceEntry
    from routing.store import Store
    from routing.translate._context import Context

__all__ = ["report_findings", "report_slices"]

_CONSEQUENCES = {
    "budgetInterval": "the budget is a share of the requests active now",
    "caCrl": "revoked certificates are accepted",
    "clientCertificate": "no client certificate is presented",
    "customTags": "spans have Envoy's tags",
    "credentialName": "certificates are not read from Secrets; the system's authorities hold",
    "enableIstioTags": "spans have Envoy's tags",
    "exponentialDelay": "no delay is injected",
    "grpcStatus": "no abort is injected",
    "http2Error": "no abort is injected",
    "http2KeepAlive": "endpoints are spoken to in HTTP/1.1",
    "idleTimeout": "for HTTP http.idleTimeout counts",
    "maxConcurrentStreams": "endpoints are spoken to in HTTP/1.1",
    "metrics": "requests are counted as ever, with all of Istio's labels",
    "network": "all endpoints are taken to be in one network",
    "privateKey": "no client certificate is presented",
    "tcp": "these rules are not used",
    "tls": "these rules are not used",
    "tunnel": "connections are made directly",
    "useRequestIdForTraceSampling": "what is traced is drawn, or said by the request's trace context",
    "zoneAwareLbSetting": "zones are not balanced",
}

_MEANINGLESS = frozenset({"http2KeepAlive", "maxConcurrentStreams"})
"""Fields that ask for nothing which would be missing here."""

SERVED_PROTOCOLS = frozenset({"", "http", "kubernetes.io/ws"})

EXPORT_ANNOTATION = "networking.istio.io/exportTo"


def report_findings(context: Context) -> None:
    """Report what is found in single objects other than EndpointSlices."""
    store, version = context.store, context.memory.versions.get
    tables = (store.virtual_services, store.destination_rules, store.service_entries, store.telemetries)  # others have no notes
    for table in tables:
        for resource in table.values():
            if resource.notes:
                _report_notes(context, resource)
    context.remember("services", "", (version("Service", 0),), lambda: _report_services(context))
    for entry in store.service_entries.values():
        _report_entry(context, entry)
    context.remember("delegates", "", (version("VirtualService", 0),), lambda: _report_unused_delegates(context))


def report_slices(store: Store, reporter: Reporter) -> None:
    """Report what is found in EndpointSlices."""
    for slice_ in store.endpoint_slices.values():
        if slice_.address_type not in ADDRESS_TYPES:
            message = f"addresses of type {slice_.address_type} are not supported; it is left out"
            reporter.report("ACMG001", slice_, "addressType", message)


def _report_services(context: Context) -> None:
    for service in context.store.services.values():
        _report_service(context, service)


def _report_notes(context: Context, resource: Resource) -> None:
    for note in resource.notes:
        if note.reason == "unknown":
            context.reporter.report("ACMG002", resource, note.field, f"there is no such field in {resource.kind}")
            continue
        name = note.field.rpartition(".")[2]
        code = "ACMG021" if name in _MEANINGLESS else "ACMG001"
        context.reporter.report(code, resource, note.field, f"{name} is not supported: {_CONSEQUENCES[name]}")


def _report_service(context: Context, service: Service) -> None:
    report = context.reporter.report
    if EXPORT_ANNOTATION in service.meta.annotations:
        report(
            "ACMG001", service, f"metadata.annotations.{EXPORT_ANNOTATION}", "it is not supported: all namespaces see a Service"
        )
    if service.is_alias:
        return
    for index, port in enumerate(service.spec.ports):
        if port.protocol != "TCP":
            continue
        protocol = port_protocol(port.name, port.app_protocol)
        field = f"spec.ports[{index}]"
        if not protocol:
            report("IST0118", service, f"{field}.name", f"port {port.port} does not say that it is HTTP")
        elif protocol not in SERVED_PROTOCOLS:
            field += ".appProtocol" if port.app_protocol else ".name"
            report("ACMG018", service, field, f"port {port.port} is declared as {protocol}; the gateway speaks HTTP/1.1 on it")


def _report_entry(context: Context, entry: ServiceEntry) -> None:
    report, spec = context.reporter.report, entry.spec
    if spec.resolution in {"NONE", "DYNAMIC_DNS"} and spec.workload_selector is None:
        for index, host in enumerate(spec.hosts):
            if host.startswith("*"):
                message = f"where {host} leads cannot be told; requests are answered with 503 (UH)"
                report("ACMG023", entry, f"spec.hosts[{index}]", message)
        if not all(host.startswith("*") for host in spec.hosts):
            message = f"{spec.resolution} is read as DNS: hosts are looked up by their names"
            report("ACMG021", entry, "spec.resolution", message)
    if spec.resolution == "DNS_ROUND_ROBIN":
        report("ACMG021", entry, "spec.resolution", "requests are balanced over all addresses, as with DNS")
    if len(spec.hosts) > 1 and any(is_ip_address(address) for address in spec.addresses):
        report("ACMG014", entry, "spec.addresses", "an address leads to a host only if the entry has no other")


def _report_unused_delegates(context: Context) -> None:
    services = context.store.virtual_services
    used = {
        (rule.delegate.namespace or service.meta.namespace, rule.delegate.name)
        for service in services.values()
        for rule in service.spec.http
        if rule.delegate is not None
    }
    for key, service in services.items():
        if not service.spec.hosts and key not in used:
            context.reporter.report("ACMG017", service, "spec.hosts", "it has no hosts, and no rule delegates to it")
