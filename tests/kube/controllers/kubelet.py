# SPDX-License-Identifier: Apache-2.0
"""A scheduler and the kubelets of all nodes: Pods get a node, an address and a status without anything being run.

What a Pod's status becomes can be decided by a function, so that a test can make a Pod slow, broken or slow to end.
"""

from __future__ import annotations

import ipaddress
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.kube.controllers.base import Controller
from tests.kube.controllers.pods import fits, tolerates
from tests.kube.kinds import Target
from tests.kube.managers import now
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.kube.kinds import Kind
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change

    Obj = dict[str, Any]

__all__ = ["Kubelet"]

POD_NETWORK = ipaddress.ip_network("10.244.0.0/16")


class Kubelet(Controller[tuple[str, str]]):
    """Runs Pods in name only; a key is a Pod's (namespace, name).

    Attributes:
        address: returns the address of a new Pod; without it one from 10.244.0.0/16.
        is_ready: tells whether a Pod with an address is Ready; asked on each change of the Pod and by `look`.
        may_end: tells whether a Pod that is to end has ended; without it every one ends at once.
    """

    def __init__(self, api: FakeApiServer) -> None:
        self._pods = api.kinds.named("Pod")
        self._nodes = api.kinds.named("Node")
        self._next = count(257)
        self.address: Callable[[Obj], str] = lambda pod: str(POD_NETWORK[next(self._next)])
        self.is_ready: Callable[[Obj], bool] = lambda pod: True
        self.may_end: Callable[[Obj], bool] = lambda pod: True
        super().__init__(api)

    def look(self) -> None:
        """Ask again about all Pods."""
        self.mark(*self.everything())

    def everything(self) -> Iterator[tuple[str, str]]:
        """Return all Pods."""
        for entry in self.api.store.entries(self._pods):
            meta = entry.obj["metadata"]
            yield meta["namespace"], meta["name"]

    def touched(self, kind: Kind, change: Change) -> Iterable[tuple[str, str]]:
        """Return the Pod, or all that wait for a node when one changes."""
        if kind is self._pods and change.type != "DELETED":
            return [change.key]
        return self.everything() if kind is self._nodes else ()

    def sync(self, key: tuple[str, str]) -> None:
        """Bring a Pod one step on."""
        entry = self.api.store.get(self._pods, *key)
        if entry is None:
            return
        pod: Obj = decode(entry.whole)
        if pod["metadata"].get("deletionTimestamp"):
            if self.may_end(pod):
                self._end(pod)
            return
        if not pod["spec"].get("nodeName") and not self._schedule_pod(pod):
            return
        self._report(pod)
        if pod != entry.obj:
            self.api.writer.put(self._pods, pod)

    def _end(self, pod: Obj) -> None:
        meta = pod["metadata"]
        target = Target(kind=self._pods, namespace=meta["namespace"], name=meta["name"])
        self.api.writer.delete(target, {"gracePeriodSeconds": 0})

    def _schedule_pod(self, pod: Obj) -> bool:
        for entry in self.api.store.entries(self._nodes):
            node, spec = entry.obj, pod["spec"]
            if fits(spec, node) and tolerates(spec.get("tolerations") or (), node):
                pod["spec"]["nodeName"] = node["metadata"]["name"]
                return True
        return False

    def _report(self, pod: Obj) -> None:
        status = pod.setdefault("status", {})
        if not status.get("podIP"):
            address = self.address(pod)
            status |= {"podIP": address, "podIPs": [{"ip": address}], "hostIP": "192.168.0.1", "startTime": now()}
        status["phase"] = "Running"
        ready = self.is_ready(pod)
        for type_, holds in (("PodScheduled", True), ("Initialized", True), ("ContainersReady", ready), ("Ready", ready)):
            _set_condition(status, type_, "True" if holds else "False")
        started = {"running": {"startedAt": status.get("startTime", "")}}
        status["containerStatuses"] = [
            {
                "name": one.get("name", ""),
                "image": one.get("image", ""),
                "imageID": "",
                "ready": ready,
                "started": True,
                "restartCount": 0,
                "state": started,
            }
            for one in pod["spec"].get("containers") or ()
        ]


def _set_condition(status: Obj, type_: str, value: str) -> None:
    conditions = status.setdefault("conditions", [])
    for one in conditions:
        if one["type"] == type_:
            if one["status"] != value:
                one |= {"status": value, "lastTransitionTime": now()}
            return
    conditions.append({"type": type_, "status": value, "lastProbeTime": None, "lastTransitionTime": now()})
