# SPDX-License-Identifier: Apache-2.0
"""A certificate for the pods that speak TLS, made when the first case needs it."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.cases.scene import Key, Scene

__all__ = ["Certificates"]

_NAMES = ("b", "b.default.svc.cluster.local", "*.secure.example")


class Certificates:
    """A self-signed certificate that is its own authority.

    Args:
        directory: where its files go.

    Attributes:
        path: file with the authority's certificate.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ca.pem"
        self._key = directory / "key.pem"
        self._context: ssl.SSLContext | None = None

    def contexts(self, scene: Scene, names: Iterable[str]) -> dict[Key, ssl.SSLContext]:
        """Return how the named pods, or pods of the named Services, listen."""
        members = {key for name in names for key in scene.members(name)}
        return dict.fromkeys(members, self._made()) if members else {}

    def _made(self) -> ssl.SSLContext:
        if self._context is None:
            names = ",".join(f"DNS:{name}" for name in _NAMES)
            command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pods"
            extensions = ["-addext", f"subjectAltName={names}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
            files = ["-keyout", str(self._key), "-out", str(self.path)]
            subprocess.run([*command.split(), *extensions, *files], check=True, capture_output=True, timeout=30)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.path, self._key)
            self._context.sni_callback = _note_name
        return self._context


def _note_name(sock: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
    sock.asked_name = name  # type: ignore[union-attr]
