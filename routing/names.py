# SPDX-License-Identifier: Apache-2.0
"""Names: how hosts, Services, clusters, virtual hosts and rule sets are called.

Owns every string format shared by more than one module, and what a host pattern covers. Knows nothing of objects: whether a
Service exists is its callers' business.

Hosts are compared in lower case, without a trailing dot and without a port. A pattern is a host, `*.suffix` (any host that
ends in `.suffix` with something before it, whatever number of labels) or `*`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "CLUSTER_DOMAIN",
    "Key",
    "canonical_host",
    "cluster_name",
    "covering_patterns",
    "covers",
    "covers_locality",
    "host_problem",
    "is_dns_label",
    "is_ip_address",
    "is_loopback",
    "merged_rule_set_key",
    "pattern_rank",
    "patterns_overlap",
    "port_protocol",
    "rule_set_key",
    "service_domains",
    "service_fqdn",
    "service_key",
    "virtual_host_key",
]

CLUSTER_DOMAIN = "cluster.local"
"""Kubernetes' default cluster domain (kubelet --cluster-domain)."""

MAX_HOST_LENGTH = 255
"""RFC 1035 section 2.3.4."""

PROTOCOLS = frozenset({"grpc", "grpc-web", "http", "http2", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp"})
"""What the name of a Service port may begin with (Istio, protocol selection)."""

Key = tuple[str, str]
"""(namespace, name) of an object."""

_LABEL = re2.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re2.compile("[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?([.][a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*")


def is_dns_label(text: str) -> bool:
    """Tell whether `text` is an RFC 1123 label, as names of Namespaces and Services are."""
    return _LABEL.fullmatch(text) is not None


def canonical_host(host: str) -> str:
    """Return `host` as it is compared: lower case, no trailing dot."""
    return host.lower().removesuffix(".")


def host_problem(host: str, *, wildcard: bool) -> str | None:
    """Say what is wrong with a host of a VirtualService or DestinationRule, None when nothing is.

    Args:
        host: Name, IP address, or with `wildcard` also `*.suffix` and `*`.
        wildcard: Whether patterns are allowed.
    """
    name = canonical_host(host)
    if not name:
        return "must not be empty"
    if len(name) > MAX_HOST_LENGTH:
        return f"is longer than {MAX_HOST_LENGTH} characters"
    if name.startswith("*"):
        if not wildcard:
            return "must not be a wildcard"
        if name == "*":
            return None
        if not name.startswith("*."):
            return "a wildcard must be `*` or start with `*.`"
        name = name[2:]
    if _HOST.fullmatch(name) is None and not is_ip_address(name):
        return "is neither a DNS name nor an IP address"
    return None


def is_ip_address(text: str) -> bool:
    """Tell whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def port_protocol(name: str, app_protocol: str) -> str:
    """Return the protocol a Service port declares, by appProtocol or by its name, lower case; "" when it declares none."""
    if app_protocol:
        return app_protocol.lower()
    protocol, _, rest = name.lower().partition("-")
    if protocol == "grpc" and rest.partition("-")[0] == "web":
        return "grpc-web"
    return protocol if protocol in PROTOCOLS else ""


def is_loopback(address: str) -> bool:
    """Tell whether `address` is an IP address of the loopback network."""
    return address.startswith("127.") or address == "::1"


def service_fqdn(key: Key, domain: str) -> str:
    """Return the full name of Service `key`."""
    namespace, name = key
    return f"{name}.{namespace}.svc.{domain}"


def service_key(host: str, domain: str) -> Key | None:
    """Return the Service that the full name `host` would be, None when it has another form."""
    name, _, rest = host.partition(".")
    namespace, _, rest = rest.partition(".")
    return (namespace, name) if rest == f"svc.{domain}" else None


def service_domains(key: Key, domain: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return the Host values that name Service `key`, save the bare short name, which depends on the caller.

    A trailing dot and a port are taken off a request's Host before it is looked up, so they have no entries here. IPv6
    addresses stand in brackets, as in a Host.
    """
    namespace, name = key
    hosts = (f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.{domain}")
    return hosts + tuple(f"[{address}]" if ":" in address else address for address in addresses)


def cluster_name(port: int, subset: str, fqdn: str, namespace: str = "") -> str:
    """Return a cluster's name in Envoy's form; `namespace` marks a variant for callers of that namespace."""
    name = f"outbound|{port}|{subset}|{fqdn}"
    return f"{name}@{namespace}" if namespace else name


def virtual_host_key(name: str, port: int) -> str:
    """Return the key of the virtual host `name` on a Service port."""
    return f"{name}:{port}"


def rule_set_key(key: Key, port: int) -> str:
    """Return the key of the rule set that VirtualService `key` makes for a Service port."""
    namespace, name = key
    return f"virtualservice/{namespace}/{name}@{port}"


def merged_rule_set_key(keys: Iterable[Key], port: int) -> str:
    """Return the key of the rule set that several VirtualServices make together for a Service port."""
    return f"virtualservice/{'+'.join('/'.join(key) for key in keys)}@{port}"


def covers(pattern: str, host: str) -> bool:
    """Tell whether `pattern` covers `host`, which may be a narrower or equal pattern itself."""
    if pattern in {host, "*"}:
        return True
    # The remainder must not be empty: `*.x` covers neither `x` nor `.x`.
    return pattern.startswith("*.") and host.endswith(pattern[1:]) and len(host) > len(pattern) - 1


def patterns_overlap(one: str, other: str) -> bool:
    """Tell whether some host is covered by both patterns."""
    return covers(one, other) or covers(other, one)


def covering_patterns(host: str) -> Iterator[str]:
    """Yield every pattern that covers `host`, the most specific first: itself, longer wildcards, `*`."""
    yield host
    rest = host.removeprefix("*.") if host != "*" else ""
    while rest:
        _, _, rest = rest.partition(".")
        if rest:
            yield f"*.{rest}"
    if host != "*":
        yield "*"


def covers_locality(pattern: str, locality: str) -> bool:
    """Tell whether a locality, which may end in `*`, covers another: `r` and `r/*` cover `r/z/s`."""
    wide = pattern.removesuffix("*").removesuffix("/")
    return not wide or locality == wide or locality.startswith(f"{wide}/")


def pattern_rank(pattern: str) -> int:
    """Return how specific a pattern is, 0 for an exact host, and the more the shorter a wildcard."""
    return 0 if not pattern.startswith("*") else MAX_HOST_LENGTH + 2 - len(pattern)
