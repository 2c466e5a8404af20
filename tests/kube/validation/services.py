# SPDX-License-Identifier: Apache-2.0
"""What a Service must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.cluster_ips import NETWORKS
from tests.kube.errors import Cause
from tests.kube.validation.names import check_labels, is_dns_label, is_dns_name, is_qualified_name, to_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kube.cluster_ips import ClusterIps

    Obj = dict[str, Any]

__all__ = ["check_service"]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")


def check_service(obj: Obj, old: Obj | None, cluster_ips: ClusterIps) -> Iterator[Cause]:
    """Yield what is wrong with a Service; `cluster_ips` knows which addresses others have."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        yield Cause("spec", "", reason="FieldValueRequired")
        return
    if spec.get("type") not in TYPES:
        yield _unsupported("spec.type", spec.get("type"), TYPES)
    headless, external = spec.get("clusterIP") == "None", spec.get("type") == "ExternalName"
    if external and not is_dns_name((spec.get("externalName") or "").removesuffix(".")):
        yield Cause("spec.externalName", "a lowercase RFC 1123 subdomain is required", value=spec.get("externalName"))
    yield from check_labels(spec.get("selector"), "spec.selector")
    if not spec.get("ports") and not headless and not external:
        yield Cause("spec.ports", "", reason="FieldValueRequired")
    yield from _ports(spec.get("ports") or [])
    yield from _traffic(spec)
    me = (obj["metadata"].get("namespace", ""), obj["metadata"].get("name", ""))
    yield from _addresses(spec, me, cluster_ips)
    if old is not None:
        yield from _immutable(spec, old.get("spec") or {})


def _ports(ports: list[Any]) -> Iterator[Cause]:
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    for at, port in enumerate(ports):
        field = f"spec.ports[{at}]"
        if not isinstance(port, dict):
            yield Cause(field, "must be an object", value=port)
            continue
        name, number, protocol = port.get("name") or "", port.get("port"), port.get("protocol")
        if not name and len(ports) > 1:
            yield Cause(f"{field}.name", "", reason="FieldValueRequired")
        elif name and not is_dns_label(name):
            yield Cause(
                f"{field}.name", "a lowercase RFC 1123 label must consist of lower case alphanumeric characters", value=name
            )
        elif name and name in names:
            yield Cause(f"{field}.name", "", reason="FieldValueDuplicate", value=name)
        names.add(name)
        if not _is_port(number):
            yield Cause(f"{field}.port", "must be between 1 and 65535, inclusive", value=number)
        if protocol not in PROTOCOLS:
            yield _unsupported(f"{field}.protocol", protocol, PROTOCOLS)
        if (number, protocol) in numbers:
            yield Cause(field, "", reason="FieldValueDuplicate", value={"port": number, "protocol": protocol})
        numbers.add((number, protocol))
        yield from _target_port(f"{field}.targetPort", port.get("targetPort"))
        application = port.get("appProtocol")
        if application is not None and not is_qualified_name(application):
            yield Cause(f"{field}.appProtocol", "must be a qualified name", value=application)


def _target_port(field: str, target: Any) -> Iterator[Cause]:
    if isinstance(target, str):
        # an IANA service name
        ok = is_dns_label(target) and len(target) <= 15 and "--" not in target and any(c.isalpha() for c in target)
        if not ok:
            yield Cause(field, "must be an IANA service name of at most 15 characters", value=target)
    elif not _is_port(target):
        yield Cause(field, "must be between 1 and 65535, inclusive", value=target)


def _is_port(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535


def _traffic(spec: Obj) -> Iterator[Cause]:
    for name, values in (
        ("sessionAffinity", ("ClientIP", "None")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("ipFamilyPolicy", ("SingleStack", "PreferDualStack", "RequireDualStack")),
        ("trafficDistribution", ("PreferClose", "PreferSameZone", "PreferSameNode")),
    ):
        if spec.get(name) is not None and spec[name] not in values:
            yield _unsupported(f"spec.{name}", spec[name], values)
    if spec.get("externalTrafficPolicy") and spec.get("type") not in {"NodePort", "LoadBalancer"} and not spec.get("externalIPs"):
        text = "may only be set for externally-accessible services"
        yield Cause("spec.externalTrafficPolicy", text, value=spec["externalTrafficPolicy"])


def _addresses(spec: Obj, me: tuple[str, str], cluster_ips: ClusterIps) -> Iterator[Cause]:
    if spec.get("type") == "ExternalName":
        if spec.get("clusterIP"):
            yield Cause("spec.clusterIPs[0]", "may not be set for ExternalName services", reason="FieldValueForbidden")
        return
    addresses = spec.get("clusterIPs") or []
    if addresses and spec.get("clusterIP") != addresses[0]:
        yield Cause("spec.clusterIPs", "first value must match `clusterIP`", value=addresses)
    if addresses == ["None"]:
        if spec.get("type") in {"NodePort", "LoadBalancer"}:
            yield Cause("spec.clusterIPs[0]", f"may not be set to 'None' for {spec['type']} services", value="None")
        return
    for at, text in enumerate(addresses):
        field, address = f"spec.clusterIPs[{at}]", to_address(text)
        if address is None:
            yield Cause(field, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)", value=text)
        elif not any(address in network for network in NETWORKS.values()):
            said = f"failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. "
            yield Cause(field, f"{said}The range of valid IPs is {NETWORKS[f'IPv{address.version}']}", value=addresses)
        elif cluster_ips.owner(text) not in {None, me}:
            yield Cause(field, f"failed to allocate IP {text}: provided IP is already allocated", value=addresses)


def _immutable(spec: Obj, old: Obj) -> Iterator[Cause]:
    if "ExternalName" in {spec.get("type"), old.get("type")}:
        return
    was, now = old.get("clusterIPs") or [], spec.get("clusterIPs") or []
    if was and now[:1] != was[:1]:
        yield Cause("spec.clusterIPs[0]", "may not change once set", value=now)
    families = old.get("ipFamilies") or []
    if families and (spec.get("ipFamilies") or [])[:1] != families[:1]:
        yield Cause("spec.ipFamilies[0]", "may not change once set", value=spec.get("ipFamilies"))


def _unsupported(field: str, value: Any, values: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{one}"' for one in values)
    return Cause(field, f"supported values: {listed}", reason="FieldValueNotSupported", value=value)
