# SPDX-License-Identifier: Apache-2.0
"""The helloworld sample in a temporary directory, moved to addresses that are free here.

The sample lives in 127.0.10.0/24 and uses port 5000. When something else is there already (another demo, another program on port
5000), the copy moves as a whole to another 127.x.y.0/24 and, if it must, to another port: the files' text is edited, not their
objects, so that comments stay and a person can go on editing.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Place", "Sample", "SampleError", "Server", "claim_place", "sample_directory", "write_sample"]

_FILES = ("service.yaml", "endpoints.yaml", "routing.yaml")
_NETWORK = "127.0.10."
_PORT = 5000
_SERVICE_HOST = 1
_ADMIN_HOST = 2
_SERVER_HOSTS = {11: ("v1", "a"), 12: ("v1", "b"), 21: ("v2", "a"), 22: ("v2", "b")}
_CANDIDATES = 30


class SampleError(Exception):
    """The sample cannot be used here; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the sample is: the first three numbers of its addresses, with the dot, and its port."""

    network: str
    port: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that somebody will listen on."""
        return tuple(f"{self.network}{host}" for host in (_SERVICE_HOST, _ADMIN_HOST, *_SERVER_HOSTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One helloworld server of the sample."""

    version: str
    instance: str
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A copy of the sample, ready for `acmgproxy run --config`."""

    directory: Path
    place: Place

    @property
    def url(self) -> str:
        """What a client asks for."""
        return f"http://{self.place.network}{_SERVICE_HOST}:{self.place.port}/hello"

    @property
    def admin(self) -> str:
        """Where the gateway's admin server goes, as HOST:PORT."""
        return f"{self.place.network}{_ADMIN_HOST}:{self.place.port}"

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that its EndpointSlice lists."""
        return tuple(
            Server(
                version=version,
                instance=f"helloworld-{version}-{letter}",
                address=f"{self.place.network}{host}",
                port=self.place.port,
            )
            for host, (version, letter) in _SERVER_HOSTS.items()
        )

    def set_weights(self, v1: int, v2: int) -> None:
        """Rewrite the VirtualService's weights, as an editor would: a new file in the place of the old one."""
        file = self.directory / "routing.yaml"
        weights = iter((v1, v2))
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, line in enumerate(lines):
            indent, key, _ = line.partition("weight:")
            if key and not indent.strip():
                lines[number] = f"{indent}{key} {next(weights)}\n"
        unfinished = self.directory / ".routing.yaml.new"
        unfinished.write_text("".join(lines), encoding="utf-8")
        unfinished.replace(file)


def sample_directory() -> Path:
    """Return the directory of the sample: inside the installed package, or in the source tree beside it.

    Raises:
        SampleError: it is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for root in (package / "_deploy", package.parent / "deploy"):
        directory = root / "samples" / "helloworld-laptop"
        if (directory / _FILES[0]).is_file():
            return directory
    msg = "the helloworld sample is missing from this installation; reinstall acmgproxy"
    raise SampleError(msg)


def write_sample(directory: Path, place: Place) -> Sample:
    """Copy the sample into `directory`, which is made, moved to `place`."""
    source = sample_directory()
    directory.mkdir()
    for name in _FILES:
        text = (source / name).read_text(encoding="utf-8")
        text = text.replace(_NETWORK, place.network).replace(str(_PORT), str(place.port))
        (directory / name).write_text(text, encoding="utf-8")
    return Sample(directory=directory, place=place)


@contextlib.contextmanager
def claim_place() -> Iterator[Place]:
    """Find a place where every address is free, and keep other demos away from it until the block ends.

    Raises:
        SampleError: there is none.
    """
    for place in _candidates():
        with contextlib.ExitStack() as claim:
            if _claim_name(place, claim) and all(_is_free(address, place.port) for address in place.addresses):
                yield place
                return
    msg = "no free loopback addresses found: the demo needs Linux, where all of 127.0.0.0/8 can be listened on"
    raise SampleError(msg)


def _candidates() -> Iterator[Place]:
    """First the sample's own place, then other networks, then other ports too (somebody has 5000 on every address)."""
    yield Place(network=_NETWORK, port=_PORT)
    for number in range(_CANDIDATES):
        network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}."
        yield Place(network=network, port=_PORT if number < _CANDIDATES // 2 else secrets.randbelow(10_000) + 20_000)


def _claim_name(place: Place, claim: contextlib.ExitStack) -> bool:
    """Take the name of the place among all demos of this machine; it is free again when this process ends, however it ends.

    Looking at the ports is not enough: two demos that start together would both find them free, and the kernel lets two gateways
    of one user share a port without a word (SO_REUSEPORT).
    """
    if sys.platform != "linux":
        return True
    sock = claim.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    try:
        sock.bind(f"\0acmgproxy-demo/{place.network}{place.port}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger in TIME_WAIT do not count
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
        return True
