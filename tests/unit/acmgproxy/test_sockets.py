# SPDX-License-Identifier: Apache-2.0
"""Facts about listening sockets: shared among workers, with nobody else."""

from __future__ import annotations

import resource
import socket

import pytest

from acmgproxy.sockets import AddressError, Bind, open_admin_socket, open_group, raise_open_files_limit, refuse_newcomers
from tests.unit.acmgproxy.control import free_address


def accept_all(sock: socket.socket) -> list[socket.socket]:
    accepted = []
    while True:
        try:
            accepted.append(sock.accept()[0])
        except BlockingIOError:
            return accepted


def close_all(*opened: socket.socket) -> None:
    for sock in opened:
        sock.close()


def test_the_kernel_spreads_connections_over_the_members() -> None:
    host, port = free_address()
    group = open_group(host, port, 3)
    clients = [socket.create_connection((host, port)) for _ in range(90)]
    accepted = [accept_all(member) for member in group.members]
    assert sum(map(len, accepted)) == 90
    assert all(accepted)
    close_all(*clients, *(sock for some in accepted for sock in some))
    group.close()


def test_a_group_is_shared_with_nobody_else() -> None:
    host, port = free_address()
    group = open_group(host, port, 2)
    with pytest.raises(AddressError, match="already in use by another program") as caught:
        open_group(host, port, 2)
    assert (caught.value.address, caught.value.port) == (host, port)
    group.close()
    open_group(host, port, 2).close()
    assert repr(group) == f"<SocketGroup {host}:{port} x2>"


def test_a_group_on_a_port_the_kernel_chooses() -> None:
    group = open_group("127.0.0.1", 0, 2)
    assert len({member.getsockname() for member in group.members}) == 1
    group.close()


def test_addresses_that_cannot_be_used_say_why() -> None:
    with pytest.raises(AddressError, match="not an address of this machine"):
        open_group("192.0.2.1", 8080, 1)
    with pytest.raises(AddressError, match="not usable"):
        open_admin_socket("no such name.invalid", 80)


def test_the_admin_socket_is_exclusive() -> None:
    sock = open_admin_socket("127.0.0.1", 0)
    with pytest.raises(AddressError, match="already in use"):
        open_admin_socket(*sock.getsockname())
    sock.close()


def test_addresses_are_written_as_people_do() -> None:
    assert str(Bind("s", "127.0.0.1", 80)) == "s at 127.0.0.1:80"
    assert str(Bind("s", "::1", 80)) == "s at [::1]:80"


def test_newcomers_are_ignored_and_those_in_the_queue_are_not() -> None:
    host, port = free_address()
    group = open_group(host, port, 1)
    early = socket.create_connection((host, port))
    refuse_newcomers(group.members[0])
    with pytest.raises(TimeoutError):
        socket.create_connection((host, port), timeout=0.1)
    accepted = accept_all(group.members[0])
    assert len(accepted) == 1
    early.send(b"x")
    accepted[0].setblocking(True)
    assert accepted[0].recv(1) == b"x"
    close_all(early, *accepted)
    group.close()


def test_a_kernel_without_socket_filters_is_put_up_with() -> None:
    sock = socket.socket()
    sock.close()
    refuse_newcomers(sock)


@pytest.mark.parametrize("soft", [256, 1024])
def test_the_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert raise_open_files_limit() == 1024
    assert asked == ([] if soft == 1024 else [(1024, 1024)])
