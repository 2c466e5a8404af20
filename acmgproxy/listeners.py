# SPDX-License-Identifier: Apache-2.0
"""Which addresses the gateway listens on: the wanted listeners against the open socket groups.

Level-triggered: `update` takes the wanted listeners as a whole, opens what is missing, closes what nobody wants and keeps the
rest, so calling it again is also how an address that was busy is tried again. An address that cannot be opened is an error of
that listener alone. A listener that only changed its name keeps its sockets, so no connection is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.sockets import TOO_MANY, AddressError, Bind, SocketGroup, format_address, open_group, room_for_listening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from routing.specs import ListenerSpec

__all__ = ["Listeners"]


class Listeners:
    """The gateway's own copies of all listening sockets.

    Args:
        workers: members of each group.
        open_socket_group: how to open one (replaced in tests).
        room: says how many sockets may be opened.
    """

    def __init__(
        self,
        workers: int,
        *,
        open_socket_group: Callable[[str, int, int], SocketGroup] = open_group,
        room: Callable[[], int] = room_for_listening,
    ) -> None:
        self._workers = workers
        self._open = open_socket_group
        self._room = room
        self._groups: dict[tuple[str, int], SocketGroup] = {}
        self.binds: dict[Bind, SocketGroup] = {}
        """What can be accepted from."""
        self.errors: dict[Bind, str] = {}
        """Why the others cannot."""

    def __repr__(self) -> str:
        return f"<Listeners open={len(self.binds)} errors={len(self.errors)}>"

    def update(self, wanted: Mapping[str, ListenerSpec]) -> bool:
        """Open and close sockets until they are as wanted; return whether anything changed."""
        owners, errors = _owners(wanted)
        for place in self._groups.keys() - owners.keys():
            self._groups.pop(place).close()
        binds: dict[Bind, SocketGroup] = {}
        room = self._room() if len(owners) > len(self._groups) else 0
        for (address, port), bind in owners.items():
            group = self._groups.get((address, port))
            if group is None:
                if room < self._workers:
                    errors[bind] = TOO_MANY
                    continue
                try:
                    group = self._groups[address, port] = self._open(address, port, self._workers)
                except AddressError as error:
                    errors[bind] = error.reason
                    continue
                room -= self._workers
            binds[bind] = group
        if (binds, errors) == (self.binds, self.errors):
            return False  # the mapping stays the same object, by which it is known to be unchanged
        self.binds, self.errors = binds, errors
        return True

    def close_member(self, worker: int) -> None:
        """Close our copies of one worker's sockets: nobody accepts from them any more."""
        for group in self._groups.values():
            group.members[worker].close()

    def close(self) -> None:
        """Close every socket of ours."""
        for group in self._groups.values():
            group.close()
        self._groups.clear()


def _owners(wanted: Mapping[str, ListenerSpec]) -> tuple[dict[tuple[str, int], Bind], dict[Bind, str]]:
    """Decide which listener owns each address: the first by name, so that the choice does not depend on history."""
    owners: dict[tuple[str, int], Bind] = {}
    errors: dict[Bind, str] = {}
    for name in sorted(wanted):
        for address, port in wanted[name].binds:
            bind = Bind(name, address, port)
            owner = owners.setdefault((address, port), bind)
            if owner is not bind and owner != bind:
                errors[bind] = f"already taken by listener {owner.name} ({format_address(address, port)})"
    return owners, errors
