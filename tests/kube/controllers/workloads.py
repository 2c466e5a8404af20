# SPDX-License-Identifier: Apache-2.0
"""Deployments, ReplicaSets and DaemonSets: Pods made from a template, replaced one by one when it changes, and counted in status.

Simpler than the real ones where nobody looks: no history, no rollback, no deadlines; a rollout goes on one Pod at a time.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tests.kube.controllers.base import Controller, owner_reference, owns
from tests.kube.controllers.pods import fits, is_active, is_ready, template_hash, tolerates
from tests.kube.kinds import Target
from tests.kube.managers import now
from tests.kube.store import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.kube.kinds import Kind
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Change

    Obj = dict[str, Any]

__all__ = ["Workloads"]

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_REVISION = "controller-revision-hash"
_POD_HASH = "pod-template-hash"
_DAEMON_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
    for key, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
]
"""What the DaemonSet controller adds to each of its Pods."""


class Workloads(Controller[tuple[str, str, str]]):
    """Keeps workloads' Pods; a key is (kind, namespace, name)."""

    def __init__(self, api: FakeApiServer) -> None:
        self._kinds = {name: api.kinds.named(name) for name in ("Deployment", "ReplicaSet", "DaemonSet")}
        self._pods = api.kinds.named("Pod")
        self._nodes = api.kinds.named("Node")
        super().__init__(api)

    def everything(self) -> Iterator[tuple[str, str, str]]:
        """Return all workloads."""
        for name in self._kinds:
            yield from self._all(name)

    def touched(self, kind: Kind, change: Change) -> Iterator[tuple[str, str, str]]:
        """Return the workload, the owner of a Pod or ReplicaSet, or all DaemonSets when a Node changes."""
        if kind.kind in self._kinds and kind.group == "apps":
            yield (kind.kind, *change.key)
        if kind is self._nodes:
            yield from self._all("DaemonSet")
        for owner in change.entry.obj["metadata"].get("ownerReferences") or ():
            if owner.get("kind") in self._kinds:
                yield (owner["kind"], change.key[0], owner["name"])

    def sync(self, key: tuple[str, str, str]) -> None:
        """Make a workload's Pods and status as they should be."""
        name = key[0]
        entry = self.api.store.get(self._kinds[name], *key[1:])
        if entry is None or entry.obj["metadata"].get("deletionTimestamp"):
            return
        workload = entry.obj
        pods = self._pods_of(workload)
        match name:
            case "Deployment":
                self._deployment(workload)
            case "ReplicaSet":
                self._replica_set(workload, pods)
            case _:
                self._daemon_set(workload, pods)

    def _pods_of(self, workload: Obj) -> list[Obj]:
        entries = self.api.store.entries(self._pods, workload["metadata"]["namespace"])
        return [entry.obj for entry in entries if owns(workload, entry.obj)]

    def _all(self, name: str) -> Iterator[tuple[str, str, str]]:
        for entry in self.api.store.entries(self._kinds[name]):
            meta = entry.obj["metadata"]
            yield (name, meta["namespace"], meta["name"])

    # --- ReplicaSet -------------------------------------------------------------------------------------------------------

    def _replica_set(self, workload: Obj, pods: list[Obj]) -> None:
        active = [pod for pod in pods if is_active(pod)]
        missing = workload["spec"].get("replicas", 1) - len(active)
        for _ in range(missing):
            self._make_pod(workload, {}, {})
        # those that serve nobody go first
        for pod in sorted(active, key=is_ready)[: max(0, -missing)]:
            self._delete_pod(pod)
        ready = sum(map(is_ready, active))
        counted = {
            "replicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "fullyLabeledReplicas": len(active),
        }
        self._status(workload, counted)

    # --- Deployment -------------------------------------------------------------------------------------------------------

    def _deployment(self, workload: Obj) -> None:
        spec, meta = workload["spec"], workload["metadata"]
        hash_ = template_hash(spec["template"])
        sets = [
            dict(entry.obj)
            for entry in self.api.store.entries(self._kinds["ReplicaSet"], meta["namespace"])
            if owns(workload, entry.obj)
        ]
        new = next((one for one in sets if one["metadata"]["labels"].get(_POD_HASH) == hash_), None)
        if new is None:
            new = self._make_replica_set(workload, hash_)
            sets.append(new)
        old = [one for one in sets if one is not new]
        self._roll(workload, new, old)
        counts = [one.get("status") or {} for one in sets]
        total = sum(one.get("replicas", 0) for one in counts)
        ready = sum(one.get("readyReplicas", 0) for one in counts)
        updated = (new.get("status") or {}).get("replicas", 0)
        done = updated == total == spec["replicas"] == ready
        least = spec["replicas"] - self._unavailable(workload)
        conditions = [
            _condition(
                workload,
                "Available",
                ready >= least,
                "MinimumReplicasAvailable" if ready >= least else "MinimumReplicasUnavailable",
            ),
            _condition(workload, "Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"),
        ]
        counted = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
        self._status(workload, counted | {"unavailableReplicas": max(0, total - ready), "conditions": conditions})

    def _roll(self, workload: Obj, new: Obj, old: list[Obj]) -> None:
        """Move one Pod's worth from the old sets to the new one, when the rollout's bounds allow."""
        wanted = workload["spec"]["replicas"]
        has, others = new["spec"]["replicas"], sum(one["spec"]["replicas"] for one in old)
        surge = _bound(workload, "maxSurge", wanted, up=True)
        if workload["spec"].get("strategy", {}).get("type") == "Recreate":
            surge = 0 if others else wanted
        room = wanted if not others else min(wanted, has + max(0, wanted + surge - has - others))
        if has != room:
            self._scale(new, room)
        if any((one.get("status") or {}).get("observedGeneration") != one["metadata"]["generation"] for one in [new, *old]):
            return  # what they count is not what they have; they will report
        ready = sum((one.get("status") or {}).get("readyReplicas", 0) for one in [new, *old])
        spare = ready - (wanted - self._unavailable(workload))
        for one in old:
            size = one["spec"]["replicas"]
            unready = size - (one.get("status") or {}).get("readyReplicas", 0)
            goes = min(size, max(0, unready) + max(0, spare))
            if goes:
                self._scale(one, size - goes)
                spare -= goes - max(0, unready)

    @staticmethod
    def _unavailable(workload: Obj) -> int:
        return _bound(workload, "maxUnavailable", workload["spec"]["replicas"], up=False)

    def _make_replica_set(self, workload: Obj, hash_: str) -> Obj:
        meta, spec = workload["metadata"], workload["spec"]
        template = decode(self.api.encode(spec["template"]))
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[_POD_HASH] = hash_
        selector = {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), _POD_HASH: hash_}}
        obj = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{hash_}",
                "namespace": meta["namespace"],
                "labels": dict(labels),
                "ownerReferences": [owner_reference(workload)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        }
        return dict(self.api.writer.put(self._kinds["ReplicaSet"], obj).obj)

    def _scale(self, one: Obj, replicas: int) -> None:
        obj = decode(self.api.encode(one))
        obj["spec"]["replicas"] = replicas
        stored = self.api.writer.put(self._kinds["ReplicaSet"], obj).obj
        one.clear()
        one.update(stored)

    # --- DaemonSet --------------------------------------------------------------------------------------------------------

    def _daemon_set(self, workload: Obj, pods: list[Obj]) -> None:
        template = workload["spec"]["template"]
        hash_ = template_hash(template)
        tolerations = [*(template["spec"].get("tolerations") or ()), *_DAEMON_TOLERATIONS]
        nodes = {entry.obj["metadata"]["name"]: entry.obj for entry in self.api.store.entries(self._nodes)}
        chosen = {name for name, node in nodes.items() if fits(template["spec"], node)}
        wanted = {name for name in chosen if tolerates(tolerations, nodes[name])}
        may_stay = {name for name in chosen if tolerates(tolerations, nodes[name], ("NoExecute",))}
        by_node: dict[str, list[Obj]] = {}
        for pod in pods:
            if is_active(pod):
                by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
        leaving = {pod["spec"]["nodeName"] for pod in pods if not is_active(pod)}
        for name in sorted(wanted - set(by_node) - leaving):
            labels = {_REVISION: hash_, "pod-template-generation": str(workload["metadata"].get("generation", 1))}
            self._make_pod(workload, labels, {"nodeName": name, "tolerations": tolerations})
        for name in sorted(set(by_node) - may_stay):
            for pod in by_node.pop(name):
                self._delete_pod(pod)
        present = [pods_[0] for name, pods_ in by_node.items() if name in wanted]
        updated = [pod for pod in present if pod["metadata"].get("labels", {}).get(_REVISION) == hash_]
        if workload["spec"].get("updateStrategy", {}).get("type") != "OnDelete":
            self._replace_outdated(workload, wanted, present, updated)
        ready = sum(map(is_ready, present))
        counted = {
            "currentNumberScheduled": len(present),
            "desiredNumberScheduled": len(wanted),
            "numberMisscheduled": len(set(by_node) - wanted),
            "numberReady": ready,
            "numberAvailable": ready,
            "updatedNumberScheduled": len(updated),
        }
        if missing := len(wanted) - ready:
            counted["numberUnavailable"] = missing
        self._status(workload, counted)

    def _replace_outdated(self, workload: Obj, wanted: Iterable[str], present: list[Obj], updated: list[Obj]) -> None:
        size = len(list(wanted))
        rolling = workload["spec"]["updateStrategy"].get("rollingUpdate") or {}
        allowed = max(1, _number(rolling.get("maxUnavailable", 1), size, up=True))
        outdated = [pod for pod in present if pod not in updated]
        gone = size - sum(map(is_ready, present))
        for pod in outdated:
            if not is_ready(pod):
                self._delete_pod(pod)
            elif gone < allowed:
                gone += 1
                self._delete_pod(pod)

    # --- all --------------------------------------------------------------------------------------------------------------

    def _make_pod(self, workload: Obj, labels: dict[str, str], spec: Obj) -> None:
        template, meta = workload["spec"]["template"], workload["metadata"]
        pod_meta = template.get("metadata") or {}
        self.api.writer.put(
            self._pods,
            decode(
                self.api.encode(
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "metadata": {
                            "name": f"{meta['name']}-" + "".join(secrets.choice(_SUFFIX) for _ in range(5)),
                            "generateName": f"{meta['name']}-",
                            "namespace": meta["namespace"],
                            "labels": {**(pod_meta.get("labels") or {}), **labels},
                            "annotations": pod_meta.get("annotations") or {},
                            "ownerReferences": [owner_reference(workload)],
                        },
                        "spec": template["spec"] | spec,
                    }
                )
            ),
        )

    def _delete_pod(self, pod: Obj) -> None:
        meta = pod["metadata"]
        self.api.writer.delete(Target(kind=self._pods, namespace=meta["namespace"], name=meta["name"]), {})

    def _status(self, workload: Obj, status: Obj) -> None:
        meta = workload["metadata"]
        kind = self._kinds[workload["kind"]]
        entry = self.api.store.get(kind, meta["namespace"], meta["name"])
        status = {"observedGeneration": meta.get("generation", 1)} | status
        if entry is not None and entry.obj.get("status") != status:
            self.api.writer.put(kind, decode(entry.whole) | {"status": status})


def _condition(workload: Obj, type_: str, holds: bool, reason: str) -> Obj:
    value = "True" if holds else "False"
    for old in (workload.get("status") or {}).get("conditions") or ():
        if (old["type"], old["status"], old["reason"]) == (type_, value, reason):
            return dict(old)
    return {"type": type_, "status": value, "reason": reason, "message": "", "lastTransitionTime": now(), "lastUpdateTime": now()}


def _bound(workload: Obj, name: str, wanted: int, *, up: bool) -> int:
    rolling = (workload["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return _number(rolling.get(name, "25%"), wanted, up=up)


def _number(value: int | str, whole: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return (whole * percent + 99) // 100 if up else whole * percent // 100
