# SPDX-License-Identifier: Apache-2.0
"""What the gateways say of themselves, asked through the API server's pod proxy, so that it works from anywhere kubectl does.

That takes a right of its own (get on pods/proxy). Without it the cluster's view has to do, and the note says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from acmgproxy.ctl.cluster import NAMESPACE
from acmgproxy.ctl.rollout import pod_trouble
from discovery.kube import PODS, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["GatewayState", "ask_gateways", "read_metrics"]

_PORT = 15021
_TIMEOUT_S = 3.0
"""A gateway answers in milliseconds; one that does not should not hold up the others."""

_AT_ONCE = 8
_ZONE = "topology.kubernetes.io/zone"


class GatewayState(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway. What is None could not be asked; `note` says why, or what ails it."""

    pod: str
    node: str
    zone: str
    ready: bool
    version: str
    config_version: int | None = None
    config_changed_at: float | None = None
    workers_up: int | None = None
    workers: int | None = None
    listeners_bound: int | None = None
    listeners: int | None = None
    stale_s: float | None = None
    note: str = ""


async def ask_gateways(client: KubeClient, pods: Iterable[Object], nodes: Iterable[Object]) -> list[GatewayState]:
    """Ask every gateway pod how it is, in the order of their nodes."""
    zones = {node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(_ZONE, "") for node in nodes}
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(pod: Object) -> GatewayState:
        async with slots:
            return await _ask(client, pod, zones)

    states = await asyncio.gather(*map(ask, pods))
    return sorted(states, key=lambda state: (state.node, state.pod))


async def _ask(client: KubeClient, pod: Object, zones: Mapping[str, str]) -> GatewayState:
    spec, name = pod["spec"], pod["metadata"]["name"]
    node = spec.get("nodeName", "")
    trouble = pod_trouble(pod)
    facts: dict[str, Any] = {
        "pod": name,
        "node": node,
        "zone": zones.get(node, ""),
        "ready": is_ready(pod),
        "version": image_version(pod),
        "note": "is being stopped" if pod["metadata"].get("deletionTimestamp") else trouble.text if trouble is not None else "",
    }
    try:
        facts |= read_listeners(await _get(client, name, "listeners")) | read_metrics(await _get(client, name, "metrics"))
    except (ApiError, msgspec.ValidationError) as error:
        facts["note"] = facts["note"] or _why_unasked(error)
    return GatewayState(**facts)


async def _get(client: KubeClient, pod: str, path: str) -> Any:
    return await client.request("GET", f"{PODS.path(NAMESPACE, f'{pod}:{_PORT}', 'proxy')}/{path}", timeout_s=_TIMEOUT_S)


def _why_unasked(error: Exception) -> str:
    if isinstance(error, ApiError) and error.status == 403:
        return "not asked: that takes the right to get pods/proxy in its namespace"
    if isinstance(error, ApiError):
        return f"gives no answer: {error.message or error.reason}"
    return f"gives an answer that is none of this release: {error}"


def is_ready(pod: Object) -> bool:
    """Tell whether the cluster calls a pod ready."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def image_version(pod: Object) -> str:
    """Return the tag of a pod's image."""
    image: str = pod["spec"]["containers"][0].get("image", "")
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2] or image


class _Listener(msgspec.Struct):
    bound: bool


def read_listeners(answer: object) -> dict[str, Any]:
    """Count what a gateway listens on."""
    listeners = msgspec.convert(answer, list[_Listener])
    return {"listeners": len(listeners), "listeners_bound": sum(one.bound for one in listeners)}


def read_metrics(text: object) -> dict[str, Any]:
    """Read the few metrics that tell how a gateway is off the text format."""
    values: dict[str, list[float]] = {}
    for line in (text if isinstance(text, str) else "").splitlines():
        if line.startswith("acmg_"):
            series, _, value = line.rpartition(" ")
            values.setdefault(series.partition("{")[0], []).append(float(value))
    if "acmg_config_version" not in values:
        return {}
    up = values.get("acmg_worker_up", [])
    stale = values.get("acmg_watch_stale_seconds", [])
    return {
        "config_version": int(values["acmg_config_version"][0]),
        "config_changed_at": next(iter(values.get("acmg_config_changed_timestamp_seconds", ())), None),
        "workers": len(up),
        "workers_up": int(sum(up)),
        "stale_s": max(stale) if stale else None,
    }
