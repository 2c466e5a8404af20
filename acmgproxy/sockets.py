# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: one group per address, one member per worker.

Each worker accepts from a socket of its own (SO_REUSEPORT), so the kernel spreads connections and no worker wakes for another's.
The supervisor creates them all and keeps a copy: a connection that waits in the accept queue of a worker that dies is accepted by
the replacement, which inherits the same socket. Closing the last copy of a member would reset what waits in its queue.

SO_REUSEPORT has a trap: two gateways of one user could share an address without either noticing. So the first member takes the
address *without* it, which is an exclusive claim that fails if anyone else listens there, and only then opens the group to the
others. The claim is the `listen` itself, not a probe before it, hence without a race.

This module owns how a socket is opened, not which (`acmgproxy.listeners`) and not who accepts from it (the workers).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from typing import NamedTuple

__all__ = [
    "TOO_MANY",
    "AddressError",
    "Bind",
    "SocketGroup",
    "open_admin_socket",
    "open_group",
    "raise_open_files_limit",
    "refuse_newcomers",
    "room_for_listening",
]

BACKLOG = 4096
"""Connections that may wait to be accepted, per worker; the kernel lowers it to net.core.somaxconn (4096 by default)."""

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>; not in Python's socket module
_INSTRUCTION = struct.Struct("HBBI")  # struct sock_filter of <linux/filter.h>
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the flags byte of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take
)

TOO_MANY = "too many open files: raise the limit (ulimit -n, LimitNOFILE), each address takes one file for each worker"

_REASONS = {
    errno.EADDRINUSE: "already in use by another program",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "not permitted (ports below 1024 need privileges)",
    errno.EMFILE: TOO_MANY,
}


class Bind(NamedTuple):
    """A listener at one of its addresses."""

    name: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.name} at {format_address(self.address, self.port)}"


class AddressError(Exception):
    """An address cannot be listened on. `reason` is for people."""

    def __init__(self, address: str, port: int, reason: str) -> None:
        super().__init__(f"{format_address(address, port)} is {reason}")
        self.address = address
        self.port = port
        self.reason = reason


class SocketGroup:
    """The listening sockets of one address; member i belongs to worker i."""

    __slots__ = ("address", "members", "port")

    def __init__(self, address: str, port: int, members: tuple[socket.socket, ...]) -> None:
        self.address = address
        self.port = port
        self.members = members

    def __repr__(self) -> str:
        return f"<SocketGroup {format_address(self.address, self.port)} x{len(self.members)}>"

    def close(self) -> None:
        """Close our copies; workers that hold theirs go on accepting from them."""
        for member in self.members:
            member.close()


def format_address(address: str, port: int) -> str:
    """Write an address as people do, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def open_group(address: str, port: int, size: int, *, backlog: int = BACKLOG) -> SocketGroup:
    """Listen on an address with `size` sockets that nobody else shares.

    Raises:
        AddressError: the address is in use, or cannot be used.
    """
    members: list[socket.socket] = []
    try:
        for _ in range(size):
            members.append(_listen(address, port, backlog, share=bool(members)))
            port = port or members[0].getsockname()[1]
            if len(members) == 1:
                members[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        for member in members:
            member.close()
        raise AddressError(address, port, _reason(error)) from error
    return SocketGroup(address, port, tuple(members))


def open_admin_socket(address: str, port: int) -> socket.socket:
    """Listen on one exclusive socket; port 0 lets the kernel choose.

    Raises:
        AddressError: the address is in use, or cannot be used.
    """
    try:
        return _listen(address, port, 128, share=False)
    except OSError as error:
        raise AddressError(address, port, _reason(error)) from error


def refuse_newcomers(sock: socket.socket) -> None:
    """Let a listening socket ignore every new connection attempt, for good; handshakes under way still complete.

    Between the last look into an accept queue and the close of the socket another connection could be queued, and be reset. A
    packet filter on the socket that drops SYNs closes that gap (as `iptables --syn -j DROP` does for the same purpose, but
    without privileges). It belongs to the socket, not to the descriptor: it holds for every process that shares it. Where the
    kernel does not have it, the gap stays.
    """
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in _DROP_SYN))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(code))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard one and return it.

    The soft limit's usual 1024 exists for programs that use select(2); a proxy needs two descriptors per request.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def room_for_listening() -> int:
    """Return how many listening sockets this process may still open.

    A quarter of the limit is kept. The supervisor starts workers, asks the API server and answers probes with it; a worker that
    accepts for others besides serves its clients with it. Without, what is left after the last listener is a gateway that cannot
    say what it lacks and cannot replace a worker.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    used = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # Linux tells the number since 6.2
    return max(0, limit - limit // 4 - used)


def _listen(address: str, port: int, backlog: int, *, share: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # restart while old connections are in TIME_WAIT
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or f"not usable: {error}"
