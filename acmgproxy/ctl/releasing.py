# SPDX-License-Identifier: Apache-2.0
"""Releases Services without a controller: looks, does what the controller's own steps say, looks again, until nothing is left.

It works also when the controller is broken or long gone. Nothing is remembered from one look to the next but when slices of ours
were last seen: the gateways go on listening for a Service for a while after that, since nodes follow late.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from acmgproxy.controller.steps import next_writes
from acmgproxy.ctl.cluster import CtlError, list_all, until
from acmgproxy.ctl.inventory import delete
from acmgproxy.ctl.traces import collect, release_views
from discovery.kube import ENDPOINT_SLICES, NAMESPACES, SERVICES, ApiError
from routing.capture import MANAGED_BY, MANAGED_BY_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from acmgproxy.controller.view import View, Write
    from acmgproxy.ctl.traces import Found, Key, Traces
    from discovery.kube import KubeClient

__all__ = ["Releasing", "look"]

_AT_ONCE = 8
"""Services worked on at the same time."""

_KINDS = {"Service": SERVICES, "EndpointSlice": ENDPOINT_SLICES}


async def look(client: KubeClient, namespace: str = "") -> dict[Key, Traces]:
    """Return every Service of the cluster or of a namespace with traces of capture."""
    managed = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    services = await list_all(client, SERVICES.path(namespace))
    return collect(services, await list_all(client, ENDPOINT_SLICES.path(namespace), labelSelector=managed))


class Releasing:
    """Releases every Service of a cluster. One use.

    Args:
        client: The cluster; no controller may work in it.
        tell: Told how far it is.
        linger_s: How long gateways go on listening for a Service after its slices have gone.
    """

    def __init__(self, client: KubeClient, tell: Callable[[str], None], *, linger_s: float) -> None:
        self.released: set[Key] = set()
        self._client = client
        self._tell = tell
        self._linger_s = linger_s
        self._last_led: dict[Key, float] = {}
        self._waits: dict[Key, str] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self, *, timeout_s: float) -> None:
        """Work until there is nothing left to do, and make sure of it.

        Raises:
            CtlError: some Services are still captured after that time; nothing but what is safe was deleted.
        """
        if not await until(self._round, timeout_s=timeout_s):
            waits = "\n".join(f"  {'/'.join(key)}: {why}" for key, why in sorted(self._waits.items()))
            raise CtlError(
                f"{len(self._waits)} Services are not released after {timeout_s:.0f} s, so nothing of acmgproxy was deleted; "
                f"they are reached all the same:\n{waits}\n"
                "Running the same command again continues; a longer --timeout gives it more time"
            )

    async def _round(self) -> bool:
        found = await self._look()
        self._waits = {}
        await asyncio.gather(*(self._advance(key, view) for key, view in found.views.items()))
        for orphan in found.orphans:
            metadata = orphan["metadata"]
            kind = SERVICES if "clusterIP" in (orphan.get("spec") or {}) else ENDPOINT_SLICES
            await delete(self._client, kind.path(metadata["namespace"], metadata["name"]), uid=metadata["uid"])
        if self._waits:
            reason = next(iter(sorted(self._waits.values())))
            done = len(self.released) - len(self._waits.keys() & self.released)
            self._tell(f"releasing Services: {done} of {len(self.released)} done ({reason})")
        return not self._waits and not found.orphans

    async def _look(self) -> Found:
        """Look at the cluster; Services first, so that slices are never older than the selectors they are judged by."""
        now = asyncio.get_running_loop().time()
        namespaces = await list_all(self._client, NAMESPACES.path())
        services = await list_all(self._client, SERVICES.path())
        slices = await list_all(self._client, ENDPOINT_SLICES.path())
        for key, traces in collect(services, slices).items():
            if traces.any:
                self.released.add(key)
            if traces.slices or key not in self._last_led:
                self._last_led[key] = now
        return release_views(
            services,
            slices,
            going={one["metadata"]["name"] for one in namespaces if one["metadata"].get("deletionTimestamp")},
            lingering={key for key, seen in self._last_led.items() if now - seen < self._linger_s},
            linger_s=self._linger_s,
        )

    async def _advance(self, key: Key, view: View) -> None:
        """Do what is next for one Service."""
        plan = next_writes(view)
        if plan.phase == "frozen":
            return
        if plan.retry_s is not None:
            self._waits[key] = "direct; the nodes are given time to notice"
        elif not plan.writes:
            self._waits[key] = "the cluster has not yet listed all its endpoints again"
        else:
            self._waits[key] = plan.writes[0].reason.replace("-", " ")
        async with self._slots:
            for write in plan.writes:
                try:
                    await self._write(write)
                except ApiError as error:
                    if error.status not in {404, 409}:  # changed or gone meanwhile: the next look will tell
                        raise

    async def _write(self, write: Write) -> None:
        kind = _KINDS[write.kind]
        path = kind.path(write.namespace, write.name)
        match write.verb:
            case "create":
                await self._client.create(kind.path(write.namespace), write.body)
            case "replace":
                await self._client.replace(path, write.body)
            case "patch":
                await self._client.patch(path, write.body)
            case "delete":
                await delete(self._client, path, uid=write.uid or None, resource_version=write.resource_version or None)
