# SPDX-License-Identifier: Apache-2.0
"""The world of one case, as objects: Services, pods, their EndpointSlices and the callers.

Nothing here runs. Addresses are all in one block 127.x.0.0/16:

    127.x.1.n   ClusterIPs        127.x.3.n   callers
    127.x.2.n   pods              127.x.4.n   nobody; the marker of a configuration

A pod gets a new uid with every case, so no connection, ejection or count of one case is there in the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.cases.model import Batch, Case, Setup

__all__ = ["Addresses", "Pod", "Scene", "Service", "marker", "text_of"]

Key = tuple[str, str]
"""Namespace and name."""

NAMESPACES = ("default", "other", "third", "istio-system")
PORTS = {80: 8080, 8080: 8090}
"""Service port to pod port."""

_PORTS: tuple[dict[str, Any], ...] = (
    {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080},
    {"name": "http-alt", "port": 8080, "protocol": "TCP", "targetPort": 8090},
)
_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_DOMAIN = "svc.cluster.local"


def text_of(value: object) -> str:
    """Return what YAML read as the text it was meant to be."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that answers."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    address: str
    hostname: str = ""

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service; without an address if it is headless or an ExternalName."""

    namespace: str
    name: str
    selector: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    external_name: str = ""
    ports: Sequence[Mapping[str, Any]] = _PORTS

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name

    def selects(self, pod: Pod) -> bool:
        """Whether the pod belongs to it."""
        return bool(self.selector) and pod.namespace == self.namespace and self.selector.items() <= pod.labels.items()

    def manifest(self) -> dict[str, Any]:
        """Return the object."""
        spec: dict[str, Any] = {"ports": [dict(port) for port in self.ports]}
        if self.external_name:
            spec |= {"type": "ExternalName", "externalName": self.external_name}
        else:
            spec |= {"clusterIP": self.address or "None", "selector": dict(self.selector)}
        return _object("v1", "Service", self.namespace, self.name, spec=spec)


class Addresses:
    """Hands out the addresses of a block; who asked before gets the same again."""

    def __init__(self, block: int) -> None:
        self.block = block
        self._given: dict[tuple[int, object], str] = {}
        self._next: dict[int, int] = {}

    def of(self, kind: int, owner: object) -> str:
        """Return the address of `owner` among the addresses of a kind."""
        if (kind, owner) not in self._given:
            number = self._next.get(kind, 0)
            self._next[kind] = number + 1
            self._given[kind, owner] = f"127.{self.block}.{kind + 16 * (number // 250)}.{number % 250 + 1}"
        return self._given[kind, owner]

    def cluster_ip(self, key: Key) -> str:
        """Return the ClusterIP of a Service."""
        return self.of(1, key)

    def pod(self, key: Key) -> str:
        """Return the address of a pod."""
        return self.of(2, key)

    def caller(self, batch: Batch) -> str:
        """Return the address of who sends a request."""
        return self.of(3, (batch.from_namespace, tuple(sorted(_labels(batch).items())), batch.from_locality))

    def marker(self, number: int) -> str:
        """Return the address of the marker of a configuration."""
        return f"127.{self.block}.4.{number % 250 + 1}"


class Scene:
    """All objects of a case but its own.

    Args:
        addresses: where they come from.
        case: what is different from the usual world, and who calls.

    Attributes:
        services, pods: by namespace and name.
        silent: pods whose ports are closed.
    """

    def __init__(self, addresses: Addresses, case: Case | None = None) -> None:
        self._addresses = addresses
        self._setup: Setup | None = case.setup if case is not None else None
        self.services: dict[Key, Service] = {}
        self.pods: dict[Key, Pod] = {}
        for name in "abc":
            self._add_service("default", name, {"app": name})
            for version in ("v1", "v2"):
                self._add_pod("default", f"{name}-{version}", {"app": name, "version": version})
                self._add_service("default", f"{name}-{version}", {"app": name, "version": version})
        if case is not None:
            self._add_extras(case.setup)
            for resource in case.resources:
                self._add_resource(resource)
        self._callers = {addresses.caller(batch): batch for batch in (case.requests if case is not None else ())}
        setup = self._setup
        self.silent = self._named(setup.refuse_connections) if setup is not None else frozenset()
        self._not_ready = self._named(setup.not_ready) if setup is not None else frozenset()
        self._terminating = self._named(setup.terminating) if setup is not None else frozenset()

    def service_of(self, host: str, namespace: str | None) -> Service | None:
        """Return the Service that a Host value means to callers of a namespace, if it has an address to connect to."""
        name = host.lower().partition(":")[0].removesuffix(".")
        by_address = next((service for service in self.services.values() if service.address == name), None)
        if by_address is not None:
            return by_address
        first, _, rest = name.partition(".")
        where, _, suffix = rest.partition(".")
        key = (where or namespace or "", first)
        service = self.services.get(key) if suffix in {"", "svc", _DOMAIN} else None
        return service if service is not None and service.address else None

    def service_named(self, name: str) -> Service | None:
        """Return the Service that a case calls `name`, `name.namespace` or `namespace/name`."""
        return self.services.get(_key(name))

    def pod_named(self, name: str) -> Pod | None:
        """Return the pod that a case calls `name`, `name.namespace` or `namespace/name`."""
        return self.pods.get(_key(name))

    def pods_called(self, name: str) -> frozenset[Key]:
        """Return the pods a name stands for: `app`, `app/version`, a pod, or those of a Service."""
        app, _, version = name.partition("/")
        labels = {"app": app} | ({"version": version} if version else {})
        found = {pod.key for pod in self.pods.values() if labels.items() <= pod.labels.items()}
        service = self.services.get(_key(name))
        if service is not None:
            found |= {pod.key for pod in self.pods.values() if service.selects(pod)}
        if (pod := self.pods.get(_key(name))) is not None:
            found.add(pod.key)
        return frozenset(found)

    def members(self, name: str) -> frozenset[Key]:
        """Return the pod of that name, or the pods of the Service of that name."""
        key = _key(name)
        service = self.services.get(key)
        if key in self.pods:
            return frozenset({key})
        return frozenset(pod.key for pod in self.pods.values() if service is not None and service.selects(pod))

    def ready_peers(self, keys: Iterable[Key]) -> frozenset[Key]:
        """Return the usable pods of the same namespaces and apps as `keys`."""
        apps = {(self.pods[key].namespace, self.pods[key].labels.get("app")) for key in keys}
        unusable = self._not_ready | self._terminating | self.silent
        return frozenset(pod.key for pod in self.pods.values() if (pod.namespace, pod.labels.get("app")) in apps) - unusable

    def manifests(self, generation: int) -> list[dict[str, Any]]:
        """Return the objects. Pods of different generations are different pods, whatever their names are."""
        objects = [_object("v1", "Namespace", "", name) for name in self._namespaces()]
        objects += [service.manifest() for service in self.services.values()]
        objects += [self._pod_manifest(pod, generation) for pod in self.pods.values()]
        objects += [slice_ for service in self.services.values() for slice_ in self._slices(service, generation)]
        return objects + [_caller(address, batch) for address, batch in self._callers.items() if batch.from_namespace]

    # --- building it ------------------------------------------------------------------------------------------------------

    def _add_extras(self, setup: Setup) -> None:
        for extra in setup.extra_services:
            self._add_service(extra.namespace, extra.name, {"app": extra.name})
            for version in extra.versions:
                self._add_pod(extra.namespace, f"{extra.name}-{version}", {"app": extra.name, "version": version})
        for said, target in setup.external_name.items():
            namespace, name = _key(said)
            self.services[namespace, name] = Service(namespace=namespace, name=name, external_name=target)
        for said, replicas in setup.headless_statefulset.items():
            namespace, name = _key(said)
            self.services[namespace, name] = Service(namespace=namespace, name=name, selector={"app": name})
            for number in range(replicas):
                pod = f"{name}-{number}"
                labels = {"app": name, "version": "v1", "statefulset.kubernetes.io/pod-name": pod}
                self._add_pod(namespace, pod, labels, hostname=pod)

    def _add_resource(self, resource: dict[str, Any]) -> None:
        """Do for a case's own Service what the API server and controllers would do: an address, and EndpointSlices."""
        if resource.get("kind") != "Service" or resource.get("apiVersion") != "v1":
            return
        meta, spec = resource["metadata"], resource.setdefault("spec", {})
        namespace, name = meta.get("namespace", "default"), meta["name"]
        if spec.get("type") != "ExternalName":
            spec.setdefault("clusterIP", self._addresses.cluster_ip((namespace, name)))
        address = spec.get("clusterIP", "None")
        self.services[namespace, name] = Service(
            namespace=namespace,
            name=name,
            selector=spec.get("selector", {}),
            address="" if address == "None" else address,
            external_name=spec.get("externalName", ""),
            ports=spec.get("ports", ()),
        )

    def _add_service(self, namespace: str, name: str, selector: Mapping[str, str]) -> None:
        address = self._addresses.cluster_ip((namespace, name))
        self.services[namespace, name] = Service(namespace=namespace, name=name, selector=selector, address=address)

    def _add_pod(self, namespace: str, name: str, labels: Mapping[str, str], *, hostname: str = "") -> None:
        localities = self._setup.localities if self._setup is not None else {}
        locality = next((where for pod, where in localities.items() if _key(pod) == (namespace, name)), "")
        address, labels = self._addresses.pod((namespace, name)), {**labels, **_topology(locality)}
        self.pods[namespace, name] = Pod(namespace=namespace, name=name, labels=labels, address=address, hostname=hostname)

    def _named(self, names: Iterable[str]) -> frozenset[Key]:
        """Return pods by name, or all pods of a Service by its name.

        Raises:
            KeyError: there is none of that name.
        """
        found: set[Key] = set()
        for name in names:
            members = self.members(name)
            if not members:
                raise KeyError(f"setup names a pod {name} that is not there")
            found |= members
        return frozenset(found)

    def _namespaces(self) -> list[str]:
        return list(dict.fromkeys((*NAMESPACES, *(pod.namespace for pod in self.pods.values()))))

    def _pod_manifest(self, pod: Pod, generation: int) -> dict[str, Any]:
        spec: dict[str, Any] = {"hostname": pod.hostname, "subdomain": pod.labels["app"]} if pod.hostname else {}
        is_usable = pod.key not in self._not_ready and pod.key not in self._terminating
        manifest = _pod(pod.namespace, pod.name, pod.labels, pod.address, spec, is_ready=is_usable)
        manifest["metadata"]["uid"] = _uid(pod, generation)
        if pod.key in self._terminating:
            manifest["metadata"]["deletionTimestamp"] = "2024-06-01T00:00:00Z"
        return manifest

    def _slices(self, service: Service, generation: int) -> list[dict[str, Any]]:
        members = [pod for pod in self.pods.values() if service.selects(pod)]
        if not members:
            return []
        meta = {"labels": {"kubernetes.io/service-name": service.name}}
        slice_ = _object("discovery.k8s.io/v1", "EndpointSlice", service.namespace, f"{service.name}-1", meta)
        slice_ |= {
            "addressType": "IPv4",
            "ports": [_slice_port(port) for port in service.ports],
            "endpoints": [self._endpoint(pod, generation) for pod in members],
        }
        return [slice_]

    def _endpoint(self, pod: Pod, generation: int) -> dict[str, Any]:
        is_terminating = pod.key in self._terminating
        is_ready = not is_terminating and pod.key not in self._not_ready
        endpoint = {
            "addresses": [pod.address],
            "conditions": {"ready": is_ready, "serving": is_ready or is_terminating, "terminating": is_terminating},
            "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": _uid(pod, generation)},
        }
        if pod.hostname:
            endpoint["hostname"] = pod.hostname
        return endpoint


def marker(address: str, number: int) -> dict[str, Any]:
    """Return a Pod by which a configuration is recognized once it is live."""
    return _pod("istio-system", f"case-marker-{number}", {"app": "marker"}, address, {})


def _caller(address: str, batch: Batch) -> dict[str, Any]:
    name = f"caller-{address.rpartition('.')[2]}"
    return _pod(batch.from_namespace or "", name, _labels(batch) | _topology(batch.from_locality), address, {})


def _labels(batch: Batch) -> dict[str, str]:
    return {name: text_of(value) for name, value in batch.from_labels.items()}


def _pod(
    namespace: str, name: str, labels: Mapping[str, str], address: str, spec: dict[str, Any], *, is_ready: bool = True
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if is_ready else "False"}
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
    return _object("v1", "Pod", namespace, name, {"labels": dict(labels)}, spec=spec) | {"status": status}


def _topology(locality: str) -> dict[str, str]:
    """Return the labels of a pod in `region/zone/subzone`."""
    return dict(zip(_TOPOLOGY, locality.split("/"), strict=False)) if locality else {}


def _slice_port(port: Mapping[str, Any]) -> dict[str, Any]:
    target = port.get("targetPort", port["port"])
    return {"name": port.get("name", ""), "port": target, "protocol": "TCP", "appProtocol": port.get("appProtocol")}


def _uid(pod: Pod, generation: int) -> str:
    return f"{pod.namespace}-{pod.name}-{generation}"


def _key(name: str) -> Key:
    if "/" in name:
        namespace, _, name = name.partition("/")
        return namespace, name
    name, _, rest = name.partition(".")
    return rest.partition(".")[0] or "default", name


def _object(
    version: str, kind: str, namespace: str, name: str, meta: Mapping[str, Any] | None = None, **rest: Any
) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {}) | dict(meta or {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}
