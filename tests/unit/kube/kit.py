# SPDX-License-Identifier: Apache-2.0
"""What the tests of the fake API server share: a client that answers (status, body), and objects to write."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.kube import FakeApiServer

    Obj = dict[str, Any]

__all__ = ["PODS", "SERVICES", "SLICES", "Client", "WatchLines", "client_of", "endpoint_slice", "pod", "service", "until"]

SERVICES = "/api/v1/namespaces/default/services"
PODS = "/api/v1/namespaces/default/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


def service(name: str = "web", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}], **spec},
    }


def endpoint_slice(name: str = "web-1", *addresses: str, **fields: Any) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
        **fields,
    }


def pod(name: str, address: str = "", *, labels: dict[str, str] | None = None, ready: bool = True, **spec: Any) -> Obj:
    status: Obj = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": status,
    }


class WatchLines:
    """A watch's events, as they come."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> Obj:
        line = await asyncio.wait_for(self._answer.content.readline(), 5)
        if not line:
            raise EOFError
        event: Obj = orjson.loads(line)
        return event

    async def named(self, count: int) -> list[tuple[str, str]]:
        """Return (type, name) of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self._answer.content.read(), 5)


class Client:
    """Requests to one server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **query: Any
    ) -> tuple[int, Any]:
        data = orjson.dumps(body) if body is not None else None
        headers = {"Content-Type": kind, "User-Agent": "tester/1", **self.headers}
        texts = {key: str(value) for key, value in query.items()}
        async with self._session.request(method, self._url + path, data=data, headers=headers, params=texts) as answer:
            raw = await answer.read()
            return answer.status, orjson.loads(raw) if "json" in answer.content_type else raw

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        return await self.ask("GET", path, **query)

    async def post(self, path: str, body: Any, **query: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, body, **query)

    async def merge(self, path: str, body: Any, **query: Any) -> tuple[int, Any]:
        return await self.ask("PATCH", path, body, kind=MERGE, **query)

    async def apply(self, path: str, body: Any, *, manager: str = "one", **query: Any) -> tuple[int, Any]:
        return await self.ask("PATCH", path, body, kind=APPLY, fieldManager=manager, **query)

    async def names(self, path: str, **query: Any) -> list[str]:
        status, listed = await self.get(path, **query)
        assert status == 200, listed
        return [item["metadata"]["name"] for item in listed["items"]]

    @asynccontextmanager
    async def watch(self, path: str, **query: Any) -> AsyncIterator[WatchLines]:
        texts = {"watch": "1"} | {key: str(value) for key, value in query.items()}
        async with self._session.get(self._url + path, params=texts, headers=self.headers) as answer:
            assert answer.status == 200
            yield WatchLines(answer)


def client_of(api: FakeApiServer) -> Client:
    return Client(api.url)


async def until(holds: Callable[[], Any], timeout_s: float = 5) -> Any:
    """Wait until a condition holds and return what it gave."""
    async with asyncio.timeout(timeout_s):
        while not (found := holds()):
            await asyncio.sleep(0)
        return found
