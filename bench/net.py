# SPDX-License-Identifier: Apache-2.0
"""Loopback addresses for the processes of one run.

Each process gets its own address of 127.0.0.0/8 (no set-up needed on Linux). Programs that cannot bind port 0 and tell the result
get a port that was free on that address a moment ago; since nobody else uses the address, it still is.
"""

from __future__ import annotations

import secrets
import socket

__all__ = ["Address", "free_address"]

Address = tuple[str, int]


def free_address(port: int = 0) -> Address:
    """Return an unused loopback address and `port`, or any free port of it.

    Raises:
        OSError: no address was found.
    """
    for _ in range(20):
        host = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return host, probe.getsockname()[1]
    msg = f"no free loopback address for port {port}"
    raise OSError(msg)
