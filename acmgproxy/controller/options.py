# SPDX-License-Identifier: Apache-2.0
"""What the controller can be told, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from acmgproxy.controller.gateways import FAIL_OPEN_AFTER_S, RECAPTURE_AFTER_S
from acmgproxy.controller.leader import LEASE_S, RENEW_DEADLINE_S, RETRY_S
from acmgproxy.controller.probes import HEALTH_PORT, PROBE_INTERVAL_S, PROBE_TIMEOUT_S
from acmgproxy.controller.rate import WRITES_BURST, WRITES_PER_S
from acmgproxy.controller.reconcile import LINGER_S

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ControllerOptions", "Timing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Limits, in seconds; where each default comes from stands with the constant."""

    fail_open_after_s: float = FAIL_OPEN_AFTER_S
    recapture_after_s: float = RECAPTURE_AFTER_S
    linger_s: float = LINGER_S
    probe_interval_s: float = PROBE_INTERVAL_S
    probe_timeout_s: float = PROBE_TIMEOUT_S
    lease_s: float = LEASE_S
    renew_deadline_s: float = RENEW_DEADLINE_S
    retry_s: float = RETRY_S
    writes_per_s: float = WRITES_PER_S
    writes_burst: int = WRITES_BURST


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What `acmgproxy controller` is told.

    Args:
        kubeconfig, context: how to reach the cluster; None for the usual ways.
        namespace: where the gateways and the Lease are.
        health: address and port of the health server; port 0 takes a free one.
        identity: of this replica; no two may be the same.
        gateway_health_port: where gateways are asked.
        timing: limits.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str = "acmg-system"
    health: tuple[str, int] = ("0.0.0.0", HEALTH_PORT)  # noqa: S104 - the kubelet and Prometheus ask the pod's address
    identity: str
    gateway_health_port: int = HEALTH_PORT
    timing: Timing = field(default_factory=Timing)
