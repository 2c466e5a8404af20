# SPDX-License-Identifier: Apache-2.0
"""Is what was installed running? A judgement of the workloads, their pods and the nodes as they are at one moment. Pure.

A DaemonSet runs once the pods of its newest generation are ready on every node that it is for; a Deployment once its newest
replicas are available and no old one is left. Some troubles do not pass by waiting: no node to run on, an image that cannot be
pulled, a process that keeps ending. They are told apart from what merely takes time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from acmgproxy.ctl.cluster import Object

__all__ = ["Rollout", "Trouble", "judge_daemon_set", "judge_deployment", "no_node", "pod_trouble", "version_of"]

_IMAGE = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


class Rollout(NamedTuple):
    """State of one workload. `text` says how far it is."""

    done: bool
    text: str


class Trouble(NamedTuple):
    """What keeps a pod from running. `lasting` if waiting alone will hardly help."""

    pod: str
    text: str
    lasting: bool


def judge_daemon_set(daemon_set: Object | None, name: str) -> Rollout:
    """Tell how far the gateways are."""
    status = (daemon_set or {}).get("status") or {}
    if daemon_set is None or status.get("observedGeneration", 0) < daemon_set["metadata"].get("generation", 0):
        return Rollout(done=False, text=f"{name}: not looked at by the cluster yet")
    desired, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    updated = status.get("updatedNumberScheduled", 0)
    text = f"{name}: {ready} of {desired} ready" + (f", {updated} of them new" if updated < desired else "")
    return Rollout(done=desired > 0 and ready >= desired and updated >= desired, text=text)


def judge_deployment(deployment: Object | None, name: str) -> Rollout:
    """Tell how far the controller is."""
    status = (deployment or {}).get("status") or {}
    if deployment is None or status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return Rollout(done=False, text=f"{name}: not looked at by the cluster yet")
    wanted = deployment["spec"].get("replicas", 1)
    available, updated, total = (status.get(field, 0) for field in ("availableReplicas", "updatedReplicas", "replicas"))
    text = f"{name}: {available} of {wanted} available" + (f", {total - updated} old ones left" if total > updated else "")
    return Rollout(done=updated >= wanted and available >= wanted and total <= updated, text=text)


def no_node(daemon_set: Object, nodes: Iterable[Object]) -> str | None:
    """Say what to do if there is no node that the gateways may run on."""
    selector: dict[str, str] = daemon_set["spec"]["template"]["spec"].get("nodeSelector") or {}
    labels = [node["metadata"].get("labels") or {} for node in nodes]
    if not selector or any(selector.items() <= found.items() for found in labels):
        return None
    wanted = " ".join(f"{key}={value}" for key, value in selector.items())
    taints = " ".join(f"{key}={value}:NoSchedule" for key, value in selector.items() if key.startswith("acmg.io/"))
    taint = f"\n  kubectl taint node NODE {taints}" if taints else ""
    return (
        f"no node is labelled {wanted}, so no gateway can run. Choose the nodes that shall carry the traffic:\n"
        f"  kubectl label node NODE {wanted}{taint}\n"
        "The gateways start by themselves then. To try it out on the nodes as they are: acmgctl install --set profile=demo"
    )


def pod_trouble(pod: Object) -> Trouble | None:
    """Say what keeps a pod from running, None if nothing is known."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _IMAGE:
            text = f"the image {container.get('image', '?')} cannot be pulled ({reason}{_and(message)})"
            advice = "Check --set hub=... and tag=..., and that the nodes reach the registry and may pull from it"
            return Trouble(name, f"pod {name}: {text}. {advice}", lasting=reason != "ErrImagePull")
        if reason == "CrashLoopBackOff":
            return Trouble(name, _crash(pod, container), lasting=True)
        if reason in _CONFIG:
            return Trouble(
                name, f"pod {name}: its container cannot be started ({reason}{_and(message)}). {_look(pod)}", lasting=True
            )
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Trouble(name, f"pod {name}: no node takes it: {condition.get('message', '')}. {_look(pod)}", lasting=False)
    return None


def _crash(pod: Object, container: Object) -> str:
    metadata = pod["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    ended = (container.get("lastState") or {}).get("terminated") or {}
    how = f"exit code {ended['exitCode']}" if "exitCode" in ended else "CrashLoopBackOff"
    last_words = (ended.get("message") or "").strip().splitlines()
    words = f": {last_words[-1]}" if last_words else ""
    return f"pod {name}: its process keeps ending ({how}{words}). See `kubectl logs -n {namespace} {name} --previous`"


def _look(pod: Object) -> str:
    metadata = pod["metadata"]
    return f"See `kubectl describe pod -n {metadata.get('namespace', '')} {metadata['name']}`"


def _and(message: str) -> str:
    return f": {message}" if message else ""


def version_of(workload: Object | None) -> str:
    """Return the version that a workload runs: its label, else the tag of its first image; empty if there is none."""
    if workload is None:
        return ""
    label: str = (workload["metadata"].get("labels") or {}).get("app.kubernetes.io/version", "")
    if label:
        return label
    containers: Sequence[Object] = workload["spec"]["template"]["spec"].get("containers") or ()
    image: str = containers[0].get("image", "") if containers else ""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2] or image
