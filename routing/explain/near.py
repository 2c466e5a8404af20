# SPDX-License-Identifier: Apache-2.0
"""Hosts that somebody may have meant: the same name on other ports or in other namespaces, and names spelled alike."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from routing.specs import VirtualHostSpec

__all__ = ["near_hosts"]

_MANY = 5
_LIKENESS = 0.6
"""Of difflib's ratio, its default: `web` is like `wab`, `reviews` is not like `details`."""


def near_hosts(hosts: Mapping[str, VirtualHostSpec], host: str, port: int) -> tuple[str, ...]:
    """Return hosts that are near to one that nothing answers to, as `host:port`, the nearest first.

    Args:
        hosts: All there are.
        host: Lower case, without port.
        port: 0 for none.
    """
    first = host.partition(".")[0]
    same, same_name = [], []
    by_label: dict[str, list[str]] = {}
    for spec in hosts.values():
        shown = f"{spec.name}:{spec.port}"
        label = spec.name.partition(".")[0]
        if host in spec.domains and spec.port != port:
            same.append(shown)
        elif label == first or spec.short_name == host:
            same_name.append(shown)
        else:
            by_label.setdefault(label, []).append(shown)
    alike = get_close_matches(first, by_label, n=_MANY, cutoff=_LIKENESS)
    return tuple([*sorted(same), *sorted(same_name), *(shown for label in alike for shown in by_label[label])][:_MANY])
