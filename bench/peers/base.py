# SPDX-License-Identifier: Apache-2.0
"""What a peer is, and the site it is started on."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.net import Address

__all__ = ["Peer", "PeerMissing", "Running", "Site", "first_line", "program"]


class PeerMissing(Exception):
    """The peer's program is not installed; the message says how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where peers run: a directory of their own, CPUs, the upstreams, and the stack that ends them."""

    directory: Path
    cpus: Collection[int]
    upstreams: tuple[Address, Address]
    stack: ExitStack

    def folder(self, name: str) -> Path:
        """Make a directory for the process `name`."""
        folder = self.directory / name
        folder.mkdir()
        return folder

    def launch(self, argv: Sequence[str | Path], folder: Path) -> Daemon:
        """Start a process in `folder` that ends with the site."""
        return self.stack.enter_context(Daemon(argv, directory=folder, cpus=self.cpus))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started peer.

    Args:
        address: where it listens.
        daemons: the processes that do its work (none for the direct way).
        configuration: the files it was started with, by name.
        details: what else is to be known of it, by name.
    """

    address: Address
    daemons: tuple[Daemon, ...] = ()
    configuration: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """The first processes of all daemons."""
        return [daemon.pid for daemon in self.daemons]


class Peer(ABC):
    """Something that answers the load."""

    name: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @abstractmethod
    def version(self) -> str:
        """Return the program's version.

        Raises:
            PeerMissing: it is not installed.
        """

    @abstractmethod
    def start(self, site: Site) -> Running:
        """Start the peer on `site`; it need not be ready yet."""


def program(name: str, *, package: str) -> str:
    """Return the path of a program.

    Raises:
        PeerMissing: it is not installed.
    """
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        msg = f"{name} is not installed (apt-get install {package})"
        raise PeerMissing(msg)
    return path


def first_line(argv: Sequence[str | Path]) -> str:
    """Run a version command and return the first line it prints."""
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=True)
    return (result.stdout + result.stderr).strip().splitlines()[0].strip()
