# SPDX-License-Identifier: Apache-2.0
"""The EndpointSlice controller: the Pods that a Service selects, as slices.

There is a slice per address family and set of ports (named target ports can differ between Pods), with 100 endpoints at most. A
slice that is no longer needed is not deleted while another is to be made: it becomes the other. So a Service whose selector
matches nothing keeps an empty slice, and the same slice is filled again. A Service without a selector is left alone, its slices
as they were.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tests.kube.controllers.base import Controller, owner_reference
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kube.kinds import Kind
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change

    Obj = dict[str, Any]
    Ports = tuple[tuple[str, int | None, str, str], ...]
    """(name, port, protocol, appProtocol)"""

__all__ = ["MANAGED_BY", "MAX_ENDPOINTS", "EndpointSlices"]

MAX_ENDPOINTS = 100
MANAGED_BY = "endpointslice-controller.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_HEADLESS = "service.kubernetes.io/headless"
_ZONE = "topology.kubernetes.io/zone"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class EndpointSlices(Controller[tuple[str, str]]):
    """Keeps the slices of Services; a key is a Service's (namespace, name)."""

    def __init__(self, api: FakeApiServer) -> None:
        self._services = api.kinds.named("Service")
        self._pods = api.kinds.named("Pod")
        self._nodes = api.kinds.named("Node")
        self._slices = api.kinds.named("EndpointSlice")
        super().__init__(api)

    def everything(self) -> Iterable[tuple[str, str]]:
        """Return all Services."""
        return [_key(entry.obj) for entry in self.api.store.entries(self._services)]

    def touched(self, kind: Kind, change: Change) -> Iterator[tuple[str, str]]:
        """Return the Service itself, those that select a Pod, the one of a slice, or all when a Node changes its labels."""
        if kind is self._services:
            yield change.key
        elif kind is self._pods:
            objs = [entry.obj for entry in (change.entry, change.old) if entry is not None]
            labels = [obj["metadata"].get("labels") or {} for obj in objs]
            for entry in self.api.store.entries(self._services, change.key[0]):
                if any(_selects(entry.obj, one) for one in labels):
                    yield _key(entry.obj)
        elif kind is self._slices:
            labels_ = change.entry.obj["metadata"].get("labels") or {}
            if labels_.get(_MANAGED_BY) == MANAGED_BY and _SERVICE_NAME in labels_:
                yield change.key[0], labels_[_SERVICE_NAME]
        elif kind is self._nodes and (
            change.type != "MODIFIED" or change.old is None or _zone(change.old.obj) != _zone(change.entry.obj)
        ):
            yield from self.everything()

    def sync(self, key: tuple[str, str]) -> None:
        """Make a Service's slices as they should be."""
        entry = self.api.store.get(self._services, *key)
        if entry is None:
            return
        service = entry.obj
        spec = service.get("spec") or {}
        if not spec.get("selector") or spec.get("type") == "ExternalName" or service["metadata"].get("deletionTimestamp"):
            return
        families = spec.get("ipFamilies") or ["IPv4"]
        existing = self._existing(*key)
        for one in existing:
            if one["addressType"] not in families:
                self._delete(one)
        for family in families:
            self._reconcile(service, family, [one for one in existing if one["addressType"] == family])

    def _existing(self, namespace: str, name: str) -> list[Obj]:
        wanted = {_SERVICE_NAME: name, _MANAGED_BY: MANAGED_BY}
        found = [entry.obj for entry in self.api.store.entries(self._slices, namespace)]
        return [
            one
            for one in found
            if wanted.items() <= (one["metadata"].get("labels") or {}).items() and not one["metadata"].get("deletionTimestamp")
        ]

    def _reconcile(self, service: Obj, family: str, existing: list[Obj]) -> None:
        desired = self._desired(service, family)
        create: list[Obj] = []
        update: list[Obj] = []
        keep: list[Obj] = []
        delete = [one for one in existing if _ports_of(one) not in desired]
        for ports, endpoints in desired.items():
            same = [one for one in existing if _ports_of(one) == ports]
            _spread(service, family, ports, endpoints, same, create=create, update=update, delete=delete, keep=keep)
        if not create and len(delete) == len(existing):
            placeholder = _slice(service, family, (), [])
            if len(delete) == 1 and _same(delete[0], placeholder):
                delete.clear()
            else:
                create.append(placeholder)
        while create and delete:
            old = delete.pop()
            update.append(create.pop() | {"metadata": old["metadata"] | {"labels": _labels(service)}})
        for one in [*create, *update]:
            self.api.writer.put(self._slices, decode(self.api.encode(one)))
        for one in delete:
            self._delete(one)

    def _desired(self, service: Obj, family: str) -> dict[Ports, dict[str, Obj]]:
        """Return the endpoints by ports and address."""
        desired: dict[Ports, dict[str, Obj]] = {}
        for entry in self.api.store.entries(self._pods, service["metadata"]["namespace"]):
            pod = entry.obj
            if not _selects(service, pod["metadata"].get("labels") or {}) or not self._belongs(service, pod):
                continue
            addresses = [address for address in _addresses(pod) if (":" in address) == (family == "IPv6")]
            if addresses:
                found = desired.setdefault(_pod_ports(service, pod), {})
                found[addresses[0]] = self._endpoint(service, pod, addresses)
        return desired

    def _belongs(self, service: Obj, pod: Obj) -> bool:
        """Leave out Pods that are over, and those on no node that is known, unless even unready ones are to be published."""
        if (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            return False
        node = pod.get("spec", {}).get("nodeName")
        if node and self.api.store.get(self._nodes, "", node) is not None:
            return True
        return bool(service["spec"].get("publishNotReadyAddresses"))

    def _endpoint(self, service: Obj, pod: Obj, addresses: list[str]) -> Obj:
        meta, spec = pod["metadata"], pod.get("spec", {})
        conditions = (pod.get("status") or {}).get("conditions") or ()
        serving = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
        terminating = "deletionTimestamp" in meta
        ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
        endpoint: Obj = {
            "addresses": addresses,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "targetRef": {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
        }
        if node := spec.get("nodeName"):
            endpoint["nodeName"] = node
            entry = self.api.store.get(self._nodes, "", node)
            if entry is not None and (zone := _zone(entry.obj)):
                endpoint["zone"] = zone
        if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
            endpoint["hostname"] = spec["hostname"]
        return endpoint

    def _delete(self, one: Obj) -> None:
        self.api.delete("EndpointSlice", *_key(one))


def _spread(
    service: Obj,
    family: str,
    ports: Ports,
    endpoints: dict[str, Obj],
    existing: list[Obj],
    *,
    create: list[Obj],
    update: list[Obj],
    delete: list[Obj],
    keep: list[Obj],
) -> None:
    """Put the endpoints of one set of ports into slices, each into the one it is in already."""
    left = dict(endpoints)
    planned: list[tuple[Obj, list[Obj]]] = []
    for one in existing:
        inside = [left.pop(old["addresses"][0]) for old in one.get("endpoints") or () if old["addresses"][0] in left]
        planned.append((one, inside))
    rest = list(left.values())
    # the fullest first, and an emptied one only when nothing else has room
    for _, inside in sorted(planned, key=lambda plan: -len(plan[1])):
        room = MAX_ENDPOINTS - len(inside)
        inside.extend(rest[:room])
        rest = rest[room:]
    for one, inside in planned:
        wanted = _slice(service, family, ports, inside)
        if not inside:
            delete.append(one)
        elif _same(one, wanted):
            keep.append(one)
        else:
            update.append(wanted | {"metadata": one["metadata"] | {"labels": _labels(service)}})
    create += [_slice(service, family, ports, rest[at : at + MAX_ENDPOINTS]) for at in range(0, len(rest), MAX_ENDPOINTS)]


def _slice(service: Obj, family: str, ports: Ports, endpoints: list[Obj]) -> Obj:
    meta = service["metadata"]
    name = f"{meta['name']}-"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": name,
            "name": name[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5)),
            "namespace": meta["namespace"],
            "labels": _labels(service),
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": family,
        # the real one encodes empty lists as null
        "endpoints": endpoints or None,
        "ports": [_port(*port) for port in ports] or None,
    }


def _port(name: str, number: int | None, protocol: str, app_protocol: str) -> Obj:
    port: Obj = {"name": name, "port": number, "protocol": protocol}
    return port | ({"appProtocol": app_protocol} if app_protocol else {})


def _labels(service: Obj) -> dict[str, str]:
    """Return the Service's labels and the controller's own."""
    meta = service["metadata"]
    labels = {
        key: value for key, value in (meta.get("labels") or {}).items() if key not in {_SERVICE_NAME, _MANAGED_BY, _HEADLESS}
    }
    if service["spec"].get("clusterIP") == "None":
        labels[_HEADLESS] = ""
    return labels | {_SERVICE_NAME: meta["name"], _MANAGED_BY: MANAGED_BY}


def _same(one: Obj, wanted: Obj) -> bool:
    fields = [(one.get(field) or [], wanted.get(field) or []) for field in ("endpoints", "ports")]
    return one["metadata"].get("labels") == wanted["metadata"]["labels"] and all(left == right for left, right in fields)


def _ports_of(one: Obj) -> Ports:
    ports = one.get("ports") or ()
    return tuple((p.get("name", ""), p.get("port"), p.get("protocol", "TCP"), p.get("appProtocol") or "") for p in ports)


def _pod_ports(service: Obj, pod: Obj) -> Ports:
    ports = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = _resolve(pod, port.get("targetPort") or port["port"], protocol)
        if number is not None:
            ports.append((port.get("name") or "", number, protocol, port.get("appProtocol") or ""))
    return tuple(ports)


def _resolve(pod: Obj, target: int | str, protocol: str) -> int | None:
    if isinstance(target, int):
        return target
    spec = pod.get("spec", {})
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _addresses(pod: Obj) -> list[str]:
    status = pod.get("status") or {}
    listed = [one["ip"] for one in status.get("podIPs") or ()]
    return listed or ([status["podIP"]] if status.get("podIP") else [])


def _selects(service: Obj, labels: dict[str, str]) -> bool:
    selector: dict[str, str] = (service.get("spec") or {}).get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _zone(node: Obj) -> str:
    return str((node["metadata"].get("labels") or {}).get(_ZONE, ""))


def _key(obj: Obj) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
