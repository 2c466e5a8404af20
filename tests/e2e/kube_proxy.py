# SPDX-License-Identifier: Apache-2.0
"""kube-proxy for the hosts of clients: watches Services and EndpointSlices over HTTP and keeps the hosts' rules in step.

Owns list, watch and applying; what the rules are is `tests.e2e.rules`. As the real one it looks at its whole knowledge after a
change, waits `delay_s` so that changes pile up (`--min-sync-period`, 1 s by default in a cluster, less here), and hands the
kernel one transaction per host. When the API server is away, rules stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import orjson

from tests.e2e.rules import Table, destinations, empty_table, script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.e2e.net import Host

__all__ = ["KubeProxy"]

_PATHS = ("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices")
_RETRY_S = 0.2

_Key = tuple[str, str]


class KubeProxy:
    """One kube-proxy for all hosts given. Use as an asynchronous context manager.

    Attributes:
        table: the rules in force.
        changes: (monotonic time, rules) each time they changed.
    """

    def __init__(self, server: str, hosts: Iterable[Host], *, delay_s: float) -> None:
        self._server = server
        self._hosts = list(hosts)
        self._delay_s = delay_s
        self._stores: dict[str, dict[_Key, dict[str, Any]]] = {path: {} for path in _PATHS}
        self._synced: set[str] = set()
        self._dirty = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.table: Table = {}
        self.changes: list[tuple[float, Table]] = []

    def __repr__(self) -> str:
        return f"<KubeProxy hosts={len(self._hosts)} destinations={len(self.table)} synced={len(self._synced) == len(_PATHS)}>"

    async def __aenter__(self) -> Self:
        for host in self._hosts:
            host.nft(empty_table())
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=5), read_bufsize=2**22)
        self._tasks = [asyncio.create_task(self._follow(path)) for path in _PATHS]
        self._tasks.append(asyncio.create_task(self._apply()))
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        # A task that failed by itself says so here, and with it the test.
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _follow(self, path: str) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                version = await self._list(path)
                await self._watch(path, version)
            await asyncio.sleep(_RETRY_S)

    async def _list(self, path: str) -> str:
        async with self._session.get(self._server + path) as response:
            response.raise_for_status()
            listed = orjson.loads(await response.read())
        self._stores[path] = {_key(item): item for item in listed["items"]}
        self._synced.add(path)
        self._dirty.set()
        return str(listed["metadata"]["resourceVersion"])

    async def _watch(self, path: str, version: str) -> None:
        query = {"watch": "true", "resourceVersion": version}
        async with self._session.get(self._server + path, params=query) as response:
            response.raise_for_status()
            async for line in response.content:
                event = orjson.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    self._stores[path][_key(event["object"])] = event["object"]
                elif event["type"] == "DELETED":
                    self._stores[path].pop(_key(event["object"]), None)
                else:
                    return  # an error: list again
                self._dirty.set()

    async def _apply(self) -> None:
        while True:
            await self._dirty.wait()
            if len(self._synced) < len(_PATHS):
                self._dirty.clear()
                continue
            await asyncio.sleep(self._delay_s)
            self._dirty.clear()
            services, slices = (self._stores[path].values() for path in _PATHS)
            table = destinations(services, slices)
            if text := script(self.table, table):
                await asyncio.gather(*(asyncio.to_thread(host.nft, text) for host in self._hosts))
                self.table = table
                self.changes.append((time.monotonic(), table))


def _key(item: dict[str, Any]) -> _Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
