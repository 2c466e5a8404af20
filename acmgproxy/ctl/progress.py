# SPDX-License-Identifier: Apache-2.0
"""Waits until the gateways and the controller run, tells how far they are, and gives up early when waiting cannot help."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NAMESPACE, OURS, CtlError, find, list_all, until
from acmgproxy.ctl.kinds import path_of
from acmgproxy.ctl.rollout import judge_daemon_set, judge_deployment, no_node, pod_trouble
from acmgproxy.ctl.terminal import Progress
from discovery.kube import NODES, PODS, ApiKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmgproxy.ctl.cluster import Object
    from acmgproxy.ctl.rollout import Trouble
    from discovery.kube import KubeClient

__all__ = ["Patience", "wait_until_running"]

_PATIENCE_S = 5.0
"""A trouble this old counts as lasting: the pods of an earlier attempt have been replaced by then."""

_EVENTS = ApiKind("", "v1", "events", "Event")
"""The form in which the cluster's own controllers write them."""

_JUDGES = {"DaemonSet": judge_daemon_set, "Deployment": judge_deployment}


class Patience:
    """Remembers since when pods are in trouble."""

    def __init__(self, limit_s: float = _PATIENCE_S) -> None:
        self._limit_s = limit_s
        self._since: dict[str, float] = {}

    def lost(self, troubles: Sequence[Trouble], now_s: float) -> Trouble | None:
        """Return a trouble that waiting will not end."""
        lasting = {trouble.pod: trouble for trouble in troubles if trouble.lasting}
        self._since = {pod: self._since.get(pod, now_s) for pod in lasting}
        return next((lasting[pod] for pod, since in self._since.items() if now_s - since >= self._limit_s), None)


async def wait_until_running(client: KubeClient, objects: Sequence[Object], *, timeout_s: float) -> None:
    """Wait for the workloads among `objects`.

    Raises:
        CtlError: they do not run in time, or never will by waiting; the text says why.
    """
    workloads = [obj for obj in objects if obj["kind"] in _JUDGES]
    patience = Patience()
    last: list[str] = []

    async def running() -> bool:
        found = [await find(client, path_of(workload)) for workload in workloads]
        rollouts = [
            _JUDGES[workload["kind"]](one, workload["metadata"]["name"]) for workload, one in zip(workloads, found, strict=True)
        ]
        troubles = [] if all(rollout.done for rollout in rollouts) else await _troubles(client)
        last[:] = [rollout.text for rollout in rollouts if not rollout.done] + [trouble.text for trouble in troubles]
        progress.say("; ".join(rollout.text for rollout in rollouts))
        if (lost := patience.lost(troubles, asyncio.get_running_loop().time())) is not None:
            raise CtlError(lost.text)
        await _check_nodes(client, found)
        return all(rollout.done for rollout in rollouts)

    with Progress() as progress:
        if not await until(running, timeout_s=timeout_s):
            events = await _events(client)
            raise CtlError(
                f"not running after {timeout_s:.0f} s: {'; '.join([*last, *events])}. "
                f"See `kubectl get pods,events -n {NAMESPACE}`; running the same command again continues to wait"
            )


async def _troubles(client: KubeClient) -> list[Trouble]:
    pods = await list_all(client, PODS.path(NAMESPACE), labelSelector=OURS)
    return [trouble for pod in pods if not pod["metadata"].get("deletionTimestamp") if (trouble := pod_trouble(pod)) is not None]


async def _check_nodes(client: KubeClient, found: Sequence[Object | None]) -> None:
    """Look for nodes if the cluster has no use for a single gateway."""
    for workload in found:
        status = (workload or {}).get("status") or {}
        if workload is None or workload["kind"] != "DaemonSet" or status.get("desiredNumberScheduled", 0) > 0:
            continue
        if (problem := no_node(workload, await list_all(client, NODES.path()))) is not None:
            raise CtlError(problem)


async def _events(client: KubeClient) -> list[str]:
    """Return what the cluster last warned of, such as quotas and admission that keep pods from being made."""
    events = await list_all(client, _EVENTS.path(NAMESPACE))
    ordered = sorted(
        (event for event in events if event.get("type") == "Warning"),
        key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "",
    )
    return list(dict.fromkeys(f"{event.get('reason', '')}: {event.get('message', '')}" for event in ordered[-3:]))
