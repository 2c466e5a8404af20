# SPDX-License-Identifier: Apache-2.0
"""Which gateway port stands for which port of a Service.

Invariant: no gateway port stands for two ports at any time, and none that a gateway may still listen on for another Service is
given away. The truth is in the cluster: what the shadows' annotations say survives the controller, and what is handed out here
and not yet seen there counts as said. Two shadows that claim the same port (a backup restored into another namespace) are
settled for the older one.

A port is looked for from a place that the Service's name determines, so that a Service that is released and captured again, or
restored, mostly gets what it had.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

from routing.capture import GATEWAY_PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

__all__ = ["REST_S", "PortAllocator", "PortsExhaustedError"]

REST_S = 300.0
"""How long a released port is left alone. Gateways close a listener within seconds; connections and proxies of nodes that follow
late may need minutes. There are 10,000 ports, so waiting costs nothing."""

Key = tuple[str, str]
Age = tuple[str, str, str]

_YOUNGEST = ("~", "~", "~")


class PortsExhaustedError(Exception):
    """Every gateway port is taken or resting."""


class PortAllocator:
    """Gives gateway ports to Services.

    Args:
        clock: monotonic, in seconds.
        busy: tells whether a port must not be given to a Service because a gateway listens on it for another.
        ports: what there is to give.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        busy: Callable[[int, Key], bool] = lambda _port, _key: False,
        ports: range = GATEWAY_PORTS,
    ) -> None:
        self._clock = clock
        self._busy = busy
        self._ports = ports
        self._given: dict[Key, dict[int, int]] = {}
        self._claims: dict[Key, tuple[Age, frozenset[int]]] = {}
        self._claimants: Counter[int] = Counter()
        self._holders: dict[int, Key] = {}
        self._resting: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<PortAllocator services={len(self._given)} ports={len(self._holders)} resting={len(self._resting)}>"

    def claim(self, key: Key, ports: Mapping[int, int], age: Age) -> frozenset[Key]:
        """Note what a Service's shadow says; return the other Services that lose a port by it.

        Args:
            key: of the Service.
            ports: gateway ports by Service port.
            age: sort key of the shadow, oldest first.
        """
        self._withdraw(key)
        self._claims[key] = age, frozenset(ports.values())
        self._claimants.update(self._claims[key][1])
        given = self._given.setdefault(key, {})
        losers: set[Key] = set()
        for port, gateway_port in ports.items():
            if port in given or gateway_port not in self._ports:
                continue  # what was given since is right, and the shadow is behind
            holder = self._holders.get(gateway_port)
            if holder == key or (holder is not None and self._age(holder, gateway_port) <= age):
                continue
            if holder is not None:
                self._take_away(holder, gateway_port)
                losers.add(holder)
            given[port] = gateway_port
            self._holders[gateway_port] = key
            self._resting.pop(gateway_port, None)
        return frozenset(losers)

    def unclaim(self, key: Key) -> None:
        """Note that a Service has no shadow any more. It keeps its ports until `keep` says otherwise: somebody may have deleted
        the shadow by mistake, and slices still lead to them.
        """
        self._withdraw(key)

    def allocate(self, key: Key, ports: Iterable[int]) -> dict[int, int]:
        """Return a gateway port for each of the Service's ports: those it has, and new ones.

        Raises:
            PortsExhaustedError: There is none left.
        """
        given = self._given.setdefault(key, {})
        for port in ports:
            if port not in given:
                given[port] = gateway_port = self._free(key, port)
                self._holders[gateway_port] = key
        return {port: given[port] for port in ports}

    def given(self, key: Key) -> dict[int, int]:
        """Return the gateway ports that a Service has."""
        return dict(self._given.get(key, {}))

    def keep(self, key: Key, ports: Collection[int]) -> None:
        """Take back the gateway ports of a Service except those of the ports named; they rest."""
        given = self._given.get(key, {})
        for port in [port for port in given if port not in ports]:
            gateway_port = given.pop(port)
            del self._holders[gateway_port]
            self._resting[gateway_port] = self._clock() + REST_S
        if not given:
            self._given.pop(key, None)

    def _age(self, key: Key, gateway_port: int) -> Age:
        """Return how old a holder's claim is; what its shadow does not say yet is the youngest of all."""
        age, ports = self._claims.get(key, (_YOUNGEST, frozenset()))
        return age if gateway_port in ports else _YOUNGEST

    def _take_away(self, key: Key, gateway_port: int) -> None:
        given = self._given[key]
        for port in [port for port, one in given.items() if one == gateway_port]:
            del given[port]
        del self._holders[gateway_port]

    def _withdraw(self, key: Key) -> None:
        _, ports = self._claims.pop(key, (_YOUNGEST, frozenset()))
        for gateway_port in ports:
            self._claimants[gateway_port] -= 1
            if not self._claimants[gateway_port]:
                del self._claimants[gateway_port]

    def _free(self, key: Key, port: int) -> int:
        now = self._clock()
        digest = sha256(f"{key[0]}/{key[1]}:{port}".encode()).digest()
        start = int.from_bytes(digest[:8], "big") % len(self._ports)
        for offset in range(len(self._ports)):
            gateway_port = self._ports[(start + offset) % len(self._ports)]
            if gateway_port in self._holders or gateway_port in self._claimants:
                continue
            if self._resting.get(gateway_port, now) > now or self._busy(gateway_port, key):
                continue
            self._resting.pop(gateway_port, None)
            return gateway_port
        raise PortsExhaustedError(
            f"all {len(self._ports)} gateway ports ({self._ports[0]}-{self._ports[-1]}) are taken: "
            "release Services or exclude ports"
        )
