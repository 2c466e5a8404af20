# SPDX-License-Identifier: Apache-2.0
"""FakeApiServer: the parts put together, on a free loopback port, and the direct way to its store for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import orjson
from aiohttp import web

from tests.kube.cluster_ips import ClusterIps
from tests.kube.controllers import EndpointSlices, Garbage, Kubelet, Workloads, empty_namespace
from tests.kube.crds import CustomKinds
from tests.kube.defaults import Defaults
from tests.kube.faults import Faults
from tests.kube.http import Handler
from tests.kube.kinds import Kinds
from tests.kube.store import Entry, Store, decode
from tests.kube.validation import Validator
from tests.kube.watching import Watches
from tests.kube.writing import Writer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from tests.kube.access import Denied
    from tests.kube.controllers.base import Controller
    from tests.kube.kinds import Kind
    from tests.kube.requests import Request
    from tests.kube.watching import Watch

__all__ = ["FakeApiServer"]

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class FakeApiServer:
    """A Kubernetes API server without a cluster: `async with FakeApiServer() as api:`.

    Args:
        port: to listen on, 0 for any free one.
        endpointslices: run the controller that keeps EndpointSlices of Services with a selector.
        gc: run the garbage collector; without it a Namespace goes at once, with all in it, and owners take nothing with them.
        workloads: run the controllers of Deployments, ReplicaSets and DaemonSets.
        kubelet: give every Pod a node, an address and a status.
        allow_loopback: EndpointSlices may hold addresses of 127.0.0.0/8 and ::1, which the real server refuses.
        token: the bearer token that requests must carry; None lets everybody in.

    Attributes:
        tls: with a certificate, from the next start on; None for plain HTTP.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        endpointslices: bool = False,
        gc: bool = False,
        workloads: bool = False,
        kubelet: bool = False,
        allow_loopback: bool = False,
        token: str | None = None,
    ) -> None:
        self.kinds = Kinds()
        self.store = Store()
        self.faults = Faults(self)
        self.requests: list[Request] = []
        self.tokens: set[str] = {token} if token else set()
        self.tls: ssl.SSLContext | None = None
        self.denied: set[Denied] = set()
        self.open_watches = Watches(self.store)
        cluster_ips = ClusterIps(self.store)
        custom = CustomKinds(self)
        validator = Validator(cluster_ips, allow_loopback=allow_loopback)
        validator.custom = custom.check
        self.writer = Writer(self.store, Defaults(cluster_ips), validator, self.kinds.named("Namespace"))
        self.writer.prepare = custom.prepare
        self.writer.on_delete = self._deleted
        self.writer.gc = gc
        self.endpointslices = EndpointSlices(self) if endpointslices else None
        self.garbage = Garbage(self) if gc else None
        self.workloads = Workloads(self) if workloads else None
        self.kubelet = Kubelet(self) if kubelet else None
        self._listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self._handler = Handler(self)
        self._runner: web.ServerRunner | None = None
        self._port = port
        for name in NAMESPACES:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def __repr__(self) -> str:
        return f"<FakeApiServer at {self.url if self._port else 'no port'}: {self.store!r}, {self.open_watches!r}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen."""
        self._handler = Handler(self)
        self._runner = web.ServerRunner(web.Server(self._handler, handler_cancellation=True), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024, ssl_context=self.tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        for controller in self.controllers:
            controller.start()

    async def stop(self) -> None:
        """Stop listening and end every connection; what is stored stays, and `start` listens on the same port again."""
        self._handler.stop()
        for controller in self.controllers:
            controller.stop()
        for watch in self.watches():
            watch.frozen = False
            watch.end(abort=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"{'https' if self.tls is not None else 'http'}://127.0.0.1:{self._port}"

    @property
    def controllers(self) -> list[Controller[Any]]:
        """The controllers that run."""
        known: tuple[Controller[Any] | None, ...] = (self.endpointslices, self.garbage, self.workloads, self.kubelet)
        return [one for one in known if one is not None]

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self.store.version

    def kubeconfig(self, path: Path, *, namespace: str = "default") -> Path:
        """Write a kubeconfig to a file, or into a directory as `kubeconfig`, and return the file."""
        file = path / "kubeconfig" if path.is_dir() else path
        user: dict[str, Any] = {"token": min(self.tokens)} if self.tokens else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": namespace}}],
            "current-context": "fake",
        }
        file.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
        return file

    def put(self, obj: dict[str, Any], *, verbatim: bool = False) -> dict[str, Any]:
        """Create or replace an object without checks; its namespace is made if need be. Return it as stored.

        Args:
            obj: is copied; metadata.namespace defaults to `default`.
            verbatim: fill no defaults in, so that even what the real server would never hold can be stored.
        """
        kind = self.kinds.of(obj)
        own: dict[str, Any] = decode(orjson.dumps(obj))
        if kind.namespaced:
            namespace = own["metadata"].setdefault("namespace", "default")
            if self.store.get(self.kinds.named("Namespace"), "", namespace) is None:
                self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        if kind.key == ("", "pods") and self.endpointslices is not None:
            self._make_node(own)
        entry = self.writer.put(kind, own, verbatim=verbatim)
        found: dict[str, Any] = decode(entry.whole)
        return found

    def _make_node(self, pod: dict[str, Any]) -> None:
        """Make the node that a Pod is on, without which the EndpointSlice controller would leave the Pod out."""
        node = (pod.get("spec") or {}).get("nodeName")
        if node and self.store.get(self.kinds.named("Node"), "", node) is None:
            self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        """Remove an object at once, whatever finalizers or grace period it has; tell whether it was there."""
        gone = self.store.delete(self.kinds.named(kind), namespace, name)
        if gone is not None:
            self.writer.on_delete(self.kinds.named(kind), gone, "Background")
        return gone is not None

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a copy of an object, None when there is none."""
        entry = self.store.get(self.kinds.named(kind), namespace, name)
        return decode(entry.whole) if entry else None

    def entry(self, kind: str, namespace: str, name: str) -> Entry:
        """Return an object's present version.

        Raises:
            LookupError: It is not there.
        """
        entry = self.store.get(self.kinds.named(kind), namespace, name)
        if entry is None:
            raise LookupError(f"{kind} {namespace}/{name} is not there")
        return entry

    def objects(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return copies of all objects of a kind, by namespace and name."""
        return [decode(entry.whole) for entry in self.store.entries(self.kinds.named(kind), namespace)]

    def watches(self, kind: str = "") -> list[Watch]:
        """Return the open watches, of one kind if it is named."""
        return self.open_watches.of(self.kinds.named(kind) if kind else None)

    def rotate_token(self, token: str) -> None:
        """Accept only this token from now on."""
        self.tokens = {token}

    def on_write(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Call a function with the method and a copy of the object after each write that came by HTTP and was no dry run."""
        self._listeners.append(callback)

    @staticmethod
    def encode(obj: dict[str, Any]) -> bytes:
        """Return an object's bytes."""
        return orjson.dumps(obj)

    def _deleted(self, kind: Kind, entry: Entry, _policy: str) -> None:
        if self.garbage is None and kind.kind == "Namespace" and not kind.group:
            empty_namespace(self, entry.obj["metadata"]["name"], at_once=True)

    def wrote(self, method: str, entry: Entry) -> None:
        """Tell the listeners of a write."""
        for listener in self._listeners:
            listener(method, decode(entry.whole))
