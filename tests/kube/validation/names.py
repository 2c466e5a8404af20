# SPDX-License-Identifier: Apache-2.0
"""The alphabets of names, labels and annotations."""

from __future__ import annotations

import ipaddress
import string
from typing import TYPE_CHECKING, Any

from tests.kube.errors import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_labels", "is_dns_label", "is_dns_name", "is_label_value", "is_qualified_name", "is_service_name", "to_address"]

_LOWER = set(string.ascii_lowercase + string.digits)
_ANY = set(string.ascii_letters + string.digits)
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations of an object together."""


def _spelt(text: str, middle: set[str], edge: set[str], most: int) -> bool:
    return 0 < len(text) <= most and set(text) <= middle and text[0] in edge and text[-1] in edge


def is_dns_label(text: str) -> bool:
    """Tell whether a text is an RFC 1123 label."""
    return _spelt(text, _LOWER | {"-"}, _LOWER, 63)


def is_service_name(text: str) -> bool:
    """Tell whether a text is an RFC 1035 label, which does not begin with a digit."""
    return is_dns_label(text) and text[0] not in string.digits


def is_dns_name(text: str) -> bool:
    """Tell whether a text is an RFC 1123 subdomain."""
    return len(text) <= 253 and all(_spelt(part, _LOWER | {"-"}, _LOWER, 253) for part in text.split("."))


def is_qualified_name(text: str) -> bool:
    """Tell whether a text is `name` or `domain/name`, as keys of labels and annotations are."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_dns_name(prefix):
        return False
    return _spelt(name, _ANY | set("-_."), _ANY, 63)


def is_label_value(text: Any) -> bool:
    """Tell whether a text is a label's value; it may be empty."""
    return isinstance(text, str) and (not text or _spelt(text, _ANY | set("-_."), _ANY, 63))


def to_address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address, None for anything else."""
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def check_labels(labels: Any, field: str) -> Iterator[Cause]:
    """Yield what is wrong with a map of labels."""
    if labels is None:
        return
    if not isinstance(labels, dict):
        yield Cause(field, "must be a map", value=labels)
        return
    for key, value in labels.items():
        if not is_qualified_name(key):
            yield Cause(field, "name part must consist of alphanumeric characters, '-', '_' or '.'", value=key)
        if not isinstance(value, str):
            yield Cause(field, "must be a string", value=value)
        elif len(value) > 63:
            yield Cause(field, "must be no more than 63 bytes", value=value)
        elif not is_label_value(value):
            text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
            yield Cause(field, text, value=value)
