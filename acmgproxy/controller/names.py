# SPDX-License-Identifier: Apache-2.0
"""How the objects that the controller makes beside a Service are called. Names follow from the Service's alone."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["direct_slice_name", "gateway_slice_name", "is_direct_slice_name", "is_gateway_slice_name", "shadow_name"]

MAX_SERVICE_NAME = 63
"""Names of Services are DNS labels (RFC 1123 section 2.1)."""

SUFFIX = "-acmg"
_KEPT = MAX_SERVICE_NAME - len(SUFFIX) - 6


def shadow_name(service: str) -> str:
    """Return the name of a Service's shadow; of a long name only the beginning is kept, with a hash of the whole."""
    name = service + SUFFIX
    return name if len(name) <= MAX_SERVICE_NAME else f"{service[:_KEPT]}-{_hash(service)}{SUFFIX}"


def gateway_slice_name(service: str, family: str) -> str:
    """Return the name of the slice that lists the gateways' addresses of one family (`IPv4`, `IPv6`)."""
    return f"{service}{SUFFIX}-gateway-{family.lower()}"


def direct_slice_name(service: str, mirrored: str) -> str:
    """Return the name of the slice that repeats endpoints of the shadow's slice `mirrored`."""
    return f"{service}{SUFFIX}-direct-{_hash(mirrored, 10)}"


def is_gateway_slice_name(service: str, name: str) -> bool:
    """Tell whether a slice of ours lists gateways."""
    return name.startswith(f"{service}{SUFFIX}-gateway-")


def is_direct_slice_name(service: str, name: str) -> bool:
    """Tell whether a slice of ours lists real endpoints."""
    return name.startswith(f"{service}{SUFFIX}-direct-")


def _hash(text: str, length: int = 5) -> str:
    return sha256(text.encode()).hexdigest()[:length]
