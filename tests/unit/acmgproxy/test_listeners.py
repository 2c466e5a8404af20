# SPDX-License-Identifier: Apache-2.0
"""Facts about the wanted listeners and their sockets."""

from __future__ import annotations

from acmgproxy.listeners import Listeners
from acmgproxy.sockets import TOO_MANY, AddressError, Bind, SocketGroup
from tests.unit.acmgproxy.control import listener, specs_with

P = ("127.0.0.1", 80)
Q = ("127.0.0.2", 80)


class Opener:
    def __init__(self) -> None:
        self.busy: set[tuple[str, int]] = set()
        self.opened: list[tuple[str, int]] = []

    def __call__(self, address: str, port: int, size: int) -> SocketGroup:
        if (address, port) in self.busy:
            raise AddressError(address, port, "busy")
        self.opened.append((address, port))
        assert size == 2
        return SocketGroup(address, port, ())


def test_listeners_come_stay_and_go() -> None:
    opener = Opener()
    listeners = Listeners(2, open_socket_group=opener)
    assert listeners.update(specs_with(listener("a", P, Q)).listeners)
    assert listeners.binds.keys() == {Bind("a", *P), Bind("a", *Q)}
    assert not listeners.update(specs_with(listener("a", P, Q)).listeners)
    assert listeners.update(specs_with(listener("a", P)).listeners)
    assert listeners.binds.keys() == {Bind("a", *P)}
    assert opener.opened == [P, Q]
    listeners.close()


def test_a_busy_address_is_the_error_of_its_listener_until_it_is_free() -> None:
    opener = Opener()
    opener.busy.add(P)
    listeners = Listeners(2, open_socket_group=opener)
    wanted = specs_with(listener("a", P), listener("b", Q)).listeners
    listeners.update(wanted)
    assert listeners.errors == {Bind("a", *P): "busy"}
    assert listeners.binds.keys() == {Bind("b", *Q)}
    assert repr(listeners) == "<Listeners open=1 errors=1>"
    opener.busy.clear()
    assert listeners.update(wanted)
    assert not listeners.errors


def test_a_listener_that_changes_its_name_keeps_its_sockets() -> None:
    listeners = Listeners(2, open_socket_group=Opener())
    listeners.update(specs_with(listener("a", P)).listeners)
    before = listeners.binds[Bind("a", *P)]
    listeners.update(specs_with(listener("b", P)).listeners)
    assert listeners.binds == {Bind("b", *P): before}


def test_of_two_listeners_at_one_address_the_first_by_name_has_it() -> None:
    listeners = Listeners(2, open_socket_group=Opener())
    listeners.update(specs_with(listener("b", P), listener("a", P)).listeners)
    assert listeners.binds.keys() == {Bind("a", *P)}
    assert listeners.errors == {Bind("b", *P): "already taken by listener a (127.0.0.1:80)"}


def test_what_there_is_no_room_for_is_not_opened_until_there_is() -> None:
    opener, room = Opener(), 3
    listeners = Listeners(2, open_socket_group=opener, room=lambda: room)
    assert listeners.update(specs_with(listener("a", P, Q)).listeners)
    assert listeners.binds.keys() == {Bind("a", *P)}
    assert listeners.errors == {Bind("a", *Q): TOO_MANY}
    room = 1
    assert not listeners.update(specs_with(listener("a", P, Q)).listeners)
    room = 2
    assert listeners.update(specs_with(listener("a", P, Q)).listeners)
    assert listeners.binds.keys() == {Bind("a", *P), Bind("a", *Q)}
    assert opener.opened == [P, Q]
    listeners.close()
