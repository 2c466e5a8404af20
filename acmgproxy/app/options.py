# SPDX-License-Identifier: Apache-2.0
"""What `acmgproxy run` is told, and how that is translated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from acmgproxy.settings import ProxySettings
from routing.translate import TranslateOptions

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KubernetesOptions", "RunOptions", "StartError"]

SHARED_ADDRESS = "127.0.0.1"
"""Where the shared listener is in standalone mode; like the clusterIPs there, it is for this machine alone."""


class StartError(Exception):
    """The gateway cannot start; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """Which cluster, and where to listen for it.

    Args:
        kubeconfig: file with the credentials, None for the pod's service account or else the usual file.
        context: of that file, None for its current one.
        listen: addresses at which gateway ports and the shared port are listened on.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    listen: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 - pods address the gateway by its pod's address


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `acmgproxy run` is told.

    Args:
        directory: where the objects are, None with `kubernetes`.
        kubernetes: which cluster the objects are in, None with `directory`.
        workers: how many worker processes.
        admin: address and port of the admin server; port 0 takes a free one.
        health: address and port of the server with health, metrics and listeners only; None for none.
        access_log: "off", "-" for standard output, or a path.
        shared_port: port of the Host-routed listener; 0 for none.
        settings: of the workers, but for what is told above.
    """

    directory: Path | None = None
    kubernetes: KubernetesOptions | None = None
    workers: int
    admin: tuple[str, int]
    health: tuple[str, int] | None = None
    access_log: str = "off"
    shared_port: int = 0
    settings: ProxySettings = field(default_factory=ProxySettings)

    def __post_init__(self) -> None:
        assert (self.directory is None) != (self.kubernetes is None), "one source of objects"

    def translate_options(self) -> TranslateOptions:
        """Return how the objects are translated: in a cluster, gateway ports stand for Service ports."""
        addresses = self.kubernetes.listen if self.kubernetes is not None else (SHARED_ADDRESS,)
        shared = tuple((address, self.shared_port) for address in addresses if self.shared_port)
        if self.kubernetes is None:
            return TranslateOptions(shared_binds=shared)
        return TranslateOptions(listeners="gateway-ports", gateway_addresses=addresses, shared_binds=shared)
