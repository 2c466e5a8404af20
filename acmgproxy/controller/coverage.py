# SPDX-License-Identifier: Apache-2.0
"""Where slices lead: the ways that kube-proxy has for each port of a Service, and whether some slices have all that others have.

Pure. kube-proxy takes the union of all slices of a Service, by the *names* of ports. So a way is (family, address, number) under
a port's name, and "A covers B" means that taking B away changes nothing for anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.controller.objects import EndpointSlice

__all__ = ["Way", "Ways", "ways"]


class Way(NamedTuple):
    """An endpoint's address and port."""

    family: str
    address: str
    port: int


class Ways:
    """The usable endpoints in some slices, by port name.

    Args:
        by_port: a port that is named without endpoints is known to have none.
        is_empty: whether there are no endpoints at all, usable or not.
    """

    __slots__ = ("by_port", "is_empty")

    def __init__(self, by_port: dict[str, set[Way]], *, is_empty: bool) -> None:
        self.by_port = by_port
        self.is_empty = is_empty

    def __repr__(self) -> str:
        return f"<Ways { ({name: len(found) for name, found in sorted(self.by_port.items())}) }>"

    def to(self, port: str) -> set[Way]:
        """Return the ways to a port."""
        return self.by_port.get(port, set())

    def covers(self, other: Ways, ports: Iterable[str]) -> bool:
        """Tell whether everything `other` has for these ports is here too."""
        return all(other.to(port) <= self.to(port) for port in ports)

    def knows(self, port: str) -> bool:
        """Tell whether the slices say something about a port, be it only that there is no endpoint."""
        return self.is_empty or port in self.by_port


def ways(slices: Iterable[EndpointSlice]) -> Ways:
    """Return the ways that slices offer: the ready endpoints of each port, or if none is, those that still serve."""
    ready: dict[str, set[Way]] = {}
    usable: dict[str, set[Way]] = {}
    is_empty = True
    for one in slices:
        family = one.address_type
        for port in one.ports:
            if port.port is None:
                continue
            ready.setdefault(port.name, set())
            usable.setdefault(port.name, set())
            for endpoint in one.endpoints:
                if endpoint.addresses and endpoint.is_usable:
                    (ready if endpoint.is_ready else usable)[port.name].add(Way(family, endpoint.addresses[0], port.port))
        is_empty = is_empty and not one.endpoints
    return Ways({name: found or usable[name] for name, found in ready.items()}, is_empty=is_empty)
