# SPDX-License-Identifier: Apache-2.0
"""What an EndpointSlice must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.errors import Cause
from tests.kube.validation.names import is_dns_label, is_dns_name, is_qualified_name, to_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    Obj = dict[str, Any]

__all__ = ["check_endpoint_slice"]

TYPES = ("FQDN", "IPv4", "IPv6")
PROTOCOLS = ("SCTP", "TCP", "UDP")
MAX_ENDPOINTS = 1000
MAX_ADDRESSES = 100
MAX_PORTS = 20000


def check_endpoint_slice(obj: Obj, old: Obj | None, *, allow_loopback: bool) -> Iterator[Cause]:
    """Yield what is wrong with an EndpointSlice."""
    type_ = obj.get("addressType")
    if not type_:
        yield Cause("addressType", "", reason="FieldValueRequired")
    elif type_ not in TYPES:
        listed = ", ".join(f'"{one}"' for one in TYPES)
        yield Cause("addressType", f"supported values: {listed}", reason="FieldValueNotSupported", value=type_)
    if old is not None and old.get("addressType") != type_:
        yield Cause("addressType", "field is immutable", value=type_)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > MAX_ENDPOINTS:
        yield Cause("endpoints", f"must have at most {MAX_ENDPOINTS} items", reason="FieldValueTooMany", value=len(endpoints))
        return
    for at, endpoint in enumerate(endpoints):
        if isinstance(endpoint, dict):
            yield from _endpoint(endpoint, f"endpoints[{at}]", type_, allow_loopback=allow_loopback)
        else:
            yield Cause(f"endpoints[{at}]", "must be an object", value=endpoint)
    yield from _ports(obj.get("ports") or [])


def _endpoint(endpoint: Obj, field: str, type_: Any, *, allow_loopback: bool) -> Iterator[Cause]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield Cause(f"{field}.addresses", "must contain at least 1 address", reason="FieldValueRequired")
    if len(addresses) > MAX_ADDRESSES:
        yield Cause(
            f"{field}.addresses", f"must have at most {MAX_ADDRESSES} items", reason="FieldValueTooMany", value=len(addresses)
        )
    for at, address in enumerate(addresses):
        yield from _address(address, f"{field}.addresses[{at}]", type_, allow_loopback=allow_loopback)
    hostname = endpoint.get("hostname")
    if hostname is not None and not is_dns_label(hostname):
        yield Cause(f"{field}.hostname", "a lowercase RFC 1123 label is required", value=hostname)
    node = endpoint.get("nodeName")
    if node is not None and not is_dns_name(node):
        yield Cause(f"{field}.nodeName", "a lowercase RFC 1123 subdomain is required", value=node)
    for zone_at, hint in enumerate((endpoint.get("hints") or {}).get("forZones") or ()):
        if not hint.get("name"):
            yield Cause(f"{field}.hints.forZones[{zone_at}].name", "", reason="FieldValueRequired")


def _address(text: Any, field: str, type_: Any, *, allow_loopback: bool) -> Iterator[Cause]:
    if type_ == "FQDN":
        if not isinstance(text, str) or not is_dns_name(text):
            yield Cause(field, "a lowercase RFC 1123 subdomain is required", value=text)
        return
    address = to_address(text)
    if address is None:
        yield Cause(field, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", value=text)
        return
    if f"IPv{address.version}" != type_:
        yield Cause(field, f"must be an {type_} address", value=text)
    if address.is_unspecified:
        yield Cause(field, f"may not be unspecified ({text})", value=text)
    if address.is_loopback and not allow_loopback:
        yield Cause(field, "may not be in the loopback range (127.0.0.0/8, ::1/128)", value=text)
    if address.is_link_local:
        yield Cause(field, "may not be in the link-local range (169.254.0.0/16, fe80::/10)", value=text)
    if address.is_multicast and str(address).startswith(("224.0.0.", "ff02:")):
        yield Cause(field, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)", value=text)


def _ports(ports: list[Any]) -> Iterator[Cause]:
    if len(ports) > MAX_PORTS:
        yield Cause("ports", f"must have at most {MAX_PORTS} items", reason="FieldValueTooMany", value=len(ports))
    names: set[str] = set()
    for at, port in enumerate(ports):
        name, number = port.get("name") or "", port.get("port")
        if name and not is_dns_label(name):
            yield Cause(f"ports[{at}].name", "a lowercase RFC 1123 label is required", value=name)
        if name in names:
            yield Cause(f"ports[{at}].name", "", reason="FieldValueDuplicate", value=name)
        names.add(name)
        if number is not None and not (isinstance(number, int) and 1 <= number <= 65535):
            yield Cause(f"ports[{at}].port", "must be between 1 and 65535, inclusive", value=number)
        if port.get("protocol") not in PROTOCOLS:
            listed = ", ".join(f'"{one}"' for one in PROTOCOLS)
            text = f"supported values: {listed}"
            yield Cause(f"ports[{at}].protocol", text, reason="FieldValueNotSupported", value=port.get("protocol"))
        application = port.get("appProtocol")
        if application is not None and not is_qualified_name(application):
            yield Cause(f"ports[{at}].appProtocol", "must be a qualified name", value=application)
