# SPDX-License-Identifier: Apache-2.0
"""Writer: carries out writes, not faster than allowed, and remembers what the watches have yet to show.

A decision is only as good as what it was made from. Until the watch has shown what was written to a Service, its view is older
than the controller's own doing, and nothing is decided from it. Versions of one kind are compared as numbers, which the API
server has promised they are; should one never come (a server restored from a backup goes back), a limit ends the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from acmgproxy.controller.objects import EndpointSlice, Service
from acmgproxy.controller.store import beside_of
from discovery.kube import ENDPOINT_SLICES, SERVICES, ApiError
from routing.capture import SERVICE_NAME_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from acmgproxy.controller.rate import RateLimit
    from acmgproxy.controller.store import Beside, Store
    from acmgproxy.controller.view import Write
    from discovery.kube import KubeClient

__all__ = ["FIELD_MANAGER", "UNSEEN_S", "NotLeadingError", "Writer"]

FIELD_MANAGER = "acmg-controller"

UNSEEN_S = 5.0
"""How long the watch may take to show a write. What is written carries the version it was decided from, so an old view would
only make the server refuse it."""

_KINDS = {"Service": SERVICES, "EndpointSlice": ENDPOINT_SLICES}

Key = tuple[str, str]


class NotLeadingError(Exception):
    """Another replica may be the leader by now, so nothing is written."""


class Writer:
    """Writes for the reconciler.

    Args:
        client: of the API server.
        store: what the watches have shown.
        rate: how fast.
        clock: monotonic, in seconds.
        may_write: whether this replica leads, asked before every write.
        wrote: told of every write and the status it ended with, 0 for no answer.
    """

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        rate: RateLimit,
        *,
        clock: Callable[[], float],
        may_write: Callable[[], bool],
        wrote: Callable[[Write, int], None],
    ) -> None:
        self._client = client
        self._store = store
        self._rate = rate
        self._clock = clock
        self._may_write = may_write
        self._wrote = wrote
        self._unseen: dict[Key, dict[tuple[str, str], tuple[str | None, float]]] = {}

    def __repr__(self) -> str:
        return f"<Writer unseen={len(self._unseen)}>"

    def is_current(self, key: Key) -> bool:
        """Tell whether the watches have shown everything that was written for a Service."""
        unseen = self._unseen.get(key)
        if not unseen:
            return True
        now = self._clock()
        left = {what: due for what, due in unseen.items() if now < due[1] and not self._is_seen(key[0], what, due[0])}
        if left:
            self._unseen[key] = left
        else:
            del self._unseen[key]
        return not left

    async def carry_out(self, key: Key, write: Write) -> None:
        """Write for a Service.

        Raises:
            ApiError: It failed; what was to be deleted and is gone is no failure.
            NotLeadingError: It was not tried.
        """
        await self._rate.take()
        if not self._may_write():
            raise NotLeadingError
        try:
            answer = await self._send(write)
        except ApiError as error:
            gone = write.verb == "delete" and error.status == 404
            self._wrote(write, 200 if gone else error.status)
            if not gone:
                raise
            answer = None
        else:
            self._wrote(write, 200)
        version = None
        if write.verb != "delete":
            version = str(answer["metadata"]["resourceVersion"])
        self._unseen.setdefault(key, {})[write.kind, write.name] = version, self._clock() + UNSEEN_S

    async def look(self, key: Key) -> Beside:
        """Read a Service and what is beside it from the API server itself.

        Raises:
            ApiError: It failed.
        """
        namespace, name = key
        known = self._store.beside(key)
        names = [name] if known.shadow is None else [name, known.shadow.meta.name]
        services = [await self._get(namespace, one) for one in names]
        slices: list[Any] = []
        for one in names:
            found = await self._client.get(ENDPOINT_SLICES.path(namespace), labelSelector=f"{SERVICE_NAME_LABEL}={one}")
            slices += found.get("items") or []
        return beside_of(
            [msgspec.convert(one, Service) for one in services if one is not None],
            [msgspec.convert(one, EndpointSlice) for one in slices],
            key,
        )

    async def _get(self, namespace: str, name: str) -> Any:
        try:
            return await self._client.get(SERVICES.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _send(self, write: Write) -> Any:
        kind = _KINDS[write.kind]
        path = kind.path(write.namespace, write.name)
        match write.verb:
            case "create":
                return await self._client.create(kind.path(write.namespace), write.body, fieldManager=FIELD_MANAGER)
            case "replace":
                return await self._client.replace(path, write.body, fieldManager=FIELD_MANAGER)
            case "patch":
                return await self._client.patch(path, write.body, kind="merge", fieldManager=FIELD_MANAGER)
            case "delete":
                return await self._client.delete(path, uid=write.uid, resource_version=write.resource_version)

    def _is_seen(self, namespace: str, what: tuple[str, str], version: str | None) -> bool:
        kind, name = what
        shown = self._store.version(kind, namespace, name)
        if version is None or shown is None:
            return version is shown
        return shown == version or (shown.isdecimal() and version.isdecimal() and int(shown) >= int(version))
