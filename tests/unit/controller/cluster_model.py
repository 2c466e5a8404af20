# SPDX-License-Identifier: Apache-2.0
"""A cluster in memory in which everything happens only when it is told to: the API server, the EndpointSlice controller, the
gateways, the watches of the controller, and the controller itself, one write at a time.

It stands for every interleaving there is: the slices of each Service, the listeners of each gateway, each of the controller's
watches and its probes may be as far behind as a test likes. What makes the promise checkable is `ports_without_way`: the ports of
the Service that no endpoint in the union of its slices serves, although nobody has killed the gateways that are listed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from acmgproxy.controller.events import EventWriter
from acmgproxy.controller.gateways import Gateway, Listener
from acmgproxy.controller.metrics import Metrics
from acmgproxy.controller.objects import EndpointSlice, Namespace, Service
from acmgproxy.controller.ports import PortAllocator
from acmgproxy.controller.reconcile import Reconciler
from acmgproxy.controller.store import Store, beside_of
from acmgproxy.controller.view import gateway_ports_of
from acmgproxy.log import configure_log
from discovery.kube import ApiError, WatchChange

if TYPE_CHECKING:
    from acmgproxy.controller.store import Beside
    from acmgproxy.controller.view import Write

__all__ = ["ClusterModel", "GatewayModel", "KilledError"]

Obj = dict[str, Any]

KEY = ("default", "hello")
SHADOW = "hello-acmg"
PODS = {"10.0.0.1": "blue", "10.0.0.2": "blue", "10.0.0.3": "green"}
NATIVE = "endpointslice-controller.k8s.io"
NAME_LABEL = "kubernetes.io/service-name"
MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
HTTP_B: Obj = {"name": "http-b", "port": 81, "targetPort": 8081, "protocol": "TCP"}


class KilledError(BaseException):
    """The controller ends here."""


@dataclass(slots=True)
class GatewayModel:
    """A gateway: what it listens on (gateway port and known endpoints by Service port), and whether it is well."""

    name: str
    address: str
    bound: dict[int, tuple[int, int]] = field(default_factory=dict)
    is_alive: bool = True
    is_ready: bool = True
    is_fresh: bool = True
    """It has started and not read the cluster yet."""


class ClusterModel:
    """The cluster. `reconcile` is the only thing that the controller does."""

    def __init__(self) -> None:
        self._number = 0
        self.services: dict[str, Obj] = {}
        self.slices: dict[str, Obj] = {}
        self.gateways: dict[str, GatewayModel] = {}
        self.probed: tuple[Gateway, ...] = ()
        self.fails_open = False
        self.now = 0.0
        self.allowance = 1
        self.refused = ""
        self.writes: list[str] = []
        self.worst: list[str] = []
        self._had: set[str] = set()
        self._forgotten: set[str] = set()
        self._unseen: dict[str, set[str]] = {"Service": set(), "EndpointSlice": set()}
        self.put_service(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "hello", "namespace": "default", "labels": {"acmg.io/capture": "enabled"}},
                "spec": {
                    "type": "ClusterIP",
                    "clusterIP": "10.96.0.10",
                    "selector": {"app": "blue"},
                    "ports": [
                        {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                        {"name": "db", "port": 5432, "targetPort": 5432, "protocol": "TCP"},
                    ],
                },
            }
        )
        self.native_sync("hello")
        self.restart()

    def __repr__(self) -> str:
        return f"<ClusterModel services={list(self.services)} slices={list(self.slices)} writes={self.writes}>"

    # --- the API server ----------------------------------------------------------------------------------------------------

    @property
    def service(self) -> Obj:
        return self.services["hello"]

    def put_service(self, obj: Obj) -> None:
        self._store(self.services, "Service", obj)

    def edit(self, **spec: Any) -> None:
        self.put_service(self.service | {"spec": self.service["spec"] | spec})

    def annotate(self, name: str, value: str | None) -> None:
        meta = self.service["metadata"]
        kept = {key: text for key, text in (meta.get("annotations") or {}).items() if key != name}
        new = kept | ({name: value} if value is not None else {})
        self.put_service(self.service | {"metadata": meta | {"annotations": new}})

    def label(self, value: str | None) -> None:
        meta = self.service["metadata"]
        labels = {"acmg.io/capture": value} if value is not None else {}
        self.put_service(self.service | {"metadata": meta | {"labels": labels}})

    @property
    def has_key(self) -> bool:
        return "acmg.io/captured" in self.service["spec"]["selector"]

    @property
    def status(self) -> str | None:
        found: str | None = (self.service["metadata"].get("annotations") or {}).get("acmg.io/status")
        return found

    def ours(self) -> dict[str, Obj]:
        return {name: one for name, one in self.slices.items() if one["metadata"]["labels"][MANAGED_LABEL] == "acmg.io"}

    def _store(self, where: dict[str, Obj], kind: str, obj: Obj) -> Obj:
        self._number += 1
        name = obj["metadata"]["name"]
        uid = where[name]["metadata"]["uid"] if name in where else f"uid-{self._number}"
        made = {"uid": uid, "resourceVersion": str(self._number), "namespace": "default", "creationTimestamp": "2026"}
        where[name] = obj | {"metadata": obj["metadata"] | made}
        self._unseen[kind].add(name)
        return where[name]

    def apply(self, write: Write) -> Obj | None:
        """Carry out a write as the API server would; a refusal is an ApiError."""
        where = self.services if write.kind == "Service" else self.slices
        found = where.get(write.name)
        body = write.body or {}
        version = write.resource_version or body.get("metadata", {}).get("resourceVersion", "")
        if write.verb == "create":
            if found is not None:
                raise ApiError(409, "AlreadyExists", write.name)
            return self._store(where, write.kind, body)
        if found is None:
            raise ApiError(404, "NotFound", write.name)
        if version and version != found["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", write.name)
        if write.verb == "delete":
            if write.uid != found["metadata"]["uid"]:
                raise ApiError(409, "Conflict", write.name)
            del where[write.name]
            self._unseen[write.kind].add(write.name)
            return None
        return self._store(where, write.kind, body if write.verb == "replace" else merge(found, body))

    # --- the EndpointSlice controller ---------------------------------------------------------------------------------------

    def native_sync(self, name: str) -> None:
        """Make the slices of a Service or shadow what its selector and the pods say, in place."""
        slice_name = f"{name}-native"
        owner = self.services.get(name)
        if owner is None:
            if slice_name in self.slices:
                del self.slices[slice_name]
                self._unseen["EndpointSlice"].add(slice_name)
            return
        spec = owner["spec"]
        pods = [address for address, app in PODS.items() if spec["selector"] == {"app": app}]
        ports = [{"name": one["name"], "port": one["targetPort"], "protocol": "TCP"} for one in spec["ports"]]
        wanted = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"name": slice_name, "labels": {NAME_LABEL: name, MANAGED_LABEL: NATIVE}},
            "ports": ports if pods else [],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in pods],
        }
        found = self.slices.get(slice_name)
        if found is None or any(found[part] != wanted[part] for part in ("ports", "endpoints")):
            self._store(self.slices, "EndpointSlice", wanted)
        self.check(f"native slices of {name}")

    # --- the gateways ---------------------------------------------------------------------------------------------------------

    def gateway_sync(self, name: str) -> None:
        """Let a gateway read the cluster."""
        gateway = self.gateways[name]
        if not gateway.is_alive:
            return
        shadow = self.services.get(SHADOW)
        known = {one["port"]: one["name"] for one in self.service["spec"]["ports"]}
        ports = gateway_ports_of(msgspec.convert(shadow, Service)) if shadow is not None else {}
        gateway.bound = {port: (number, self._real_endpoints(known[port])) for port, number in ports.items() if port in known}
        gateway.is_fresh = False
        self.check(f"gateway {name}")

    def _real_endpoints(self, port: str) -> int:
        found = set()
        for one in self.slices.values():
            if one["metadata"]["labels"][MANAGED_LABEL] == NATIVE and any(entry["name"] == port for entry in one["ports"]):
                found |= {endpoint["addresses"][0] for endpoint in one["endpoints"]}
        return len(found)

    def probe(self) -> None:
        """Let the controller ask all gateways."""
        self.probed = tuple(
            Gateway(
                namespace="acmg-system",
                name=one.name,
                uid=one.name,
                node="",
                zone="",
                addresses={"IPv4": one.address},
                is_ready=one.is_alive and one.is_ready and not one.is_fresh,
                bound={Listener("default/hello", port, number, "IPv4"): count for port, (number, count) in one.bound.items()},
                errors={},
            )
            for one in self.gateways.values()
        )

    # --- the controller -------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Begin anew, with everything seen."""
        clock = lambda: self.now  # noqa: E731 - read later
        self._cache = Store()
        self._cache.take_namespaces(_change({("", "default"): _namespace()}))
        self._allocator = PortAllocator(clock, lambda port, key: False)
        self._metrics = Metrics()
        self._unseen = {"Service": set(self.services), "EndpointSlice": set(self.slices)}
        self._reconciler = Reconciler(
            store=self._cache,
            queue=_NoQueue(),  # type: ignore[arg-type]
            writer=self,  # type: ignore[arg-type]
            allocator=self._allocator,
            cluster=_Seen(self),
            events=EventWriter(None, "model", clock=clock, failed=lambda: None),  # type: ignore[arg-type]
            metrics=self._metrics,
            log=configure_log(level=50),
            clock=clock,
            system_namespace="acmg-system",
            linger_s=5.0,
        )
        self.see("Service")
        self.see("EndpointSlice")
        self.probe()

    def see(self, kind: str) -> None:
        """Let a watch catch up."""
        where: dict[str, Obj] = self.services if kind == "Service" else self.slices
        type_: Any = Service if kind == "Service" else EndpointSlice
        names, self._unseen[kind] = self._unseen[kind], set()
        put = {("default", name): msgspec.convert(where[name], type_) for name in sorted(names) if name in where}
        change = _change(put, {("default", name) for name in names if name not in where})
        if kind == "EndpointSlice":
            self._cache.take_slices(change)
            return
        for _, name in change.removed:
            if name == SHADOW:
                self._allocator.unclaim(KEY)
        for one in change.put.values():
            if one.is_shadow:
                self._allocator.claim(KEY, gateway_ports_of(one), one.meta.age)
        self._cache.take_services(change)

    def reconcile(self, allowance: int = 100, refused: str = "") -> int:
        """Let the controller look at the Service, and kill it after some writes; return how many it made.

        Args:
            allowance: how many it may make.
            refused: what for the API server takes no write.
        """
        self.allowance, self.refused, before = allowance, refused, len(self.writes)
        try:
            with contextlib.suppress(StopIteration, ApiError):
                self._reconciler.reconcile(KEY).send(None)  # nothing in here really waits
        except KilledError:
            self.restart()
        return len(self.writes) - before

    def is_current(self, _key: Any) -> bool:
        """See Writer: the model may always be behind."""
        return True

    async def carry_out(self, _key: Any, write: Write) -> None:
        """See Writer."""
        if write.reason == self.refused:
            raise ApiError(500, "InternalError", "refused")
        self.apply(write)
        self.writes.append(f"{write.reason} {write.name}")
        self.check(f"{write.verb} {write.name} for {write.reason}")
        self.allowance -= 1
        if self.allowance <= 0:
            raise KilledError

    async def look(self, key: Any) -> Beside:
        """See Writer."""
        services = [msgspec.convert(one, Service) for one in self.services.values()]
        return beside_of(services, [msgspec.convert(one, EndpointSlice) for one in self.slices.values()], key)

    # --- the promise -----------------------------------------------------------------------------------------------------------

    def check(self, after: str) -> None:
        """Note ports that have lost their last way."""
        for port in self.service["spec"]["ports"]:
            if port["name"] in self._forgotten:
                continue
            if self.has_way(port):
                self._had.add(port["name"])
            elif port["name"] in self._had and not self._is_excused(port["name"]):
                self.worst.append(f"{port['name']} has no way after {after}: {self.writes}")

    def forget(self, port: str) -> None:
        """Watch a port no more until everybody has come to rest: what is left of it when it is made again is an accident."""
        self._had.discard(port)
        self._forgotten.add(port)

    def remember(self) -> None:
        """Watch all ports again."""
        self._forgotten.clear()

    def ways(self, port: str) -> list[tuple[str, int]]:
        return [
            (endpoint["addresses"][0], entry["port"])
            for one in self.slices.values()
            if one["metadata"]["labels"][NAME_LABEL] == "hello"
            for entry in one["ports"]
            if entry["name"] == port
            for endpoint in one["endpoints"]
        ]

    def has_way(self, port: Obj) -> bool:
        by_address = {one.address: one for one in self.gateways.values()}
        for address, number in self.ways(port["name"]):
            gateway = by_address.get(address)
            if gateway is None:
                if address in PODS and number == port["targetPort"]:
                    return True
            elif gateway.is_alive and gateway.bound.get(port["port"], (0, 0))[0] == number:
                return True
        return False

    def _is_excused(self, port: str) -> bool:
        """Tell whether the gateways that are listed are not well, which is nothing the controller did."""
        by_address = {one.address: one for one in self.gateways.values()}
        listed = [by_address[address] for address, _ in self.ways(port) if address in by_address]
        return bool(listed) and all(not one.is_alive or one.is_fresh for one in listed)


class _NoQueue:
    """Whether and when the controller looks again is up to the test."""

    def add(self, keys: object, *, urgent: bool = False) -> None: ...

    def add_later(self, key: object, delay_s: float) -> None: ...


class _Seen:
    """What the controller knows of the gateways."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return self._model.probed

    @property
    def fails_open(self) -> bool:
        return self._model.fails_open


def merge(found: Obj, patch: Obj) -> Obj:
    """Apply a JSON merge patch (RFC 7396)."""
    merged = dict(found)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


def _change(put: dict[tuple[str, str], Any], removed: set[tuple[str, str]] | None = None) -> WatchChange[Any]:
    return WatchChange(put, removed or set(), ())


def _namespace() -> Namespace:
    return msgspec.convert({"metadata": {"name": "default"}}, Namespace)
