# SPDX-License-Identifier: Apache-2.0
"""Holds the controllers' Lease, so that no controller works meanwhile, wherever it runs.

Whoever holds the Lease may change what capture makes. To take it from a controller that works is safe after the time it was
given: by then that controller has noticed, or has stopped because it could not renew. It is renewed for as long as it is held; if
we are killed it runs out by itself, and a controller goes on.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import CONTROLLER, NAMESPACE, CtlError, find
from discovery.kube import LEASES, ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["held_lease"]

_PATH = LEASES.path(NAMESPACE, CONTROLLER)

_DURATION_S = 15
"""How long our hold lasts without renewal; client-go's default for leaders."""

_RENEW_S = 4.0
"""Several tries within the duration."""

_MAX_WAIT_S = 60.0
"""No controller of ours takes a Lease for longer; a longer duration in it is a mistake."""

_ATTEMPTS = 10


@asynccontextmanager
async def held_lease(client: KubeClient, tell: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the Lease for a while. In a cluster without our namespace there can be no controller, and nothing is held.

    Args:
        client: The cluster.
        tell: Told what is being waited for.

    Raises:
        CtlError: it cannot be had.
    """
    identity = f"acmgctl-{socket.gethostname()}-{os.getpid()}"
    previous = await _take(client, identity)
    keeper = asyncio.create_task(_keep(client, identity))
    try:
        if (wait_s := _notice_s(previous, identity)) > 0:
            tell(f"taking over from the controller {_holder(previous)}, which may work for another {wait_s:.0f} s")
            await asyncio.sleep(wait_s)
        yield
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper


async def _take(client: KubeClient, identity: str) -> Object | None:
    """Make the Lease ours; return what it was before."""
    for _ in range(_ATTEMPTS):
        before = await find(client, _PATH)
        try:
            if before is None:
                await client.create(LEASES.path(NAMESPACE), _lease(None, identity))
            else:
                await client.replace(_PATH, _lease(before, identity))
        except ApiError as error:
            if error.status == 404:
                return None
            if error.status != 409:
                raise
        else:
            return before
    raise CtlError("the controllers' Lease changes all the time; run the command again")


async def _keep(client: KubeClient, identity: str) -> None:
    while True:
        await asyncio.sleep(_RENEW_S)
        with suppress(ApiError, CtlError):
            await _take(client, identity)


def _lease(before: Object | None, identity: str) -> Object:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = (before or {}).get("spec") or {}
    mine = spec.get("holderIdentity") == identity
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": before["metadata"] if before is not None else {"name": CONTROLLER, "namespace": NAMESPACE},
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": _DURATION_S,
            "acquireTime": spec.get("acquireTime", now) if mine else now,
            "renewTime": now,
            "leaseTransitions": spec.get("leaseTransitions", 0) + (not mine),
        },
    }


def _holder(lease: Object | None) -> str:
    return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""


def _notice_s(previous: Object | None, identity: str) -> float:
    """Return how long the holder before us may go on working. Clocks differ, so its last renewal says nothing."""
    if _holder(previous) in {"", identity} or _holder(previous).startswith("acmgctl-"):
        return 0.0
    duration = ((previous or {}).get("spec") or {}).get("leaseDurationSeconds") or _DURATION_S
    return min(float(duration), _MAX_WAIT_S)
