# SPDX-License-Identifier: Apache-2.0
"""Waits until Services are captured, or direct again, and tells where each stands meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from acmgproxy.ctl.cluster import CtlError, find, list_all, list_kind, until
from acmgproxy.ctl.services import judged, named, state_of
from acmgproxy.ctl.terminal import Progress, say
from acmgproxy.ctl.traces import collect
from discovery.kube import ENDPOINT_SLICES, NAMESPACES, SERVICES, VIRTUAL_SERVICES
from routing.capture import MANAGED_BY, MANAGED_BY_LABEL, SHADOW_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.ctl.services import ServiceState
    from acmgproxy.ctl.traces import Key
    from discovery.kube import KubeClient

__all__ = ["wait_for"]

_REFUSED_S = 3.0
"""A refusal this old is meant: one from before the label was set is overwritten within a second or two."""


async def wait_for(client: KubeClient, awaited: Iterable[Key], aim: Literal["captured", "direct"], *, timeout_s: float) -> int:
    """Wait until every Service is as it should be; return the exit code. One that is deleted meanwhile is not waited for.

    Raises:
        CtlError: some are not in time; the text says where they stand.
    """
    left: dict[Key, ServiceState | None] = dict.fromkeys(sorted(awaited))
    refused: dict[Key, float] = {}

    async def done() -> bool:
        now = asyncio.get_running_loop().time()
        for namespace in sorted({namespace for namespace, _ in left}):
            states = await _states(client, namespace)
            for key in [key for key in left if key[0] == namespace]:
                left[key] = state = states.get(key)
                if state is None or state.state == aim:
                    del left[key]
                    say(f"Service {'/'.join(key)} {'was deleted' if state is None else f'is {aim}'}", style="green")
                elif state.state == "refused" and now - refused.setdefault(key, now) >= _REFUSED_S:
                    raise CtlError(f"Service {'/'.join(key)} cannot be captured: {state.reason}")
        if left:
            progress.say(f"waiting for {'; '.join(_text(key, state) for key, state in left.items())}")
        return not left

    with Progress() as progress:
        if await until(done, timeout_s=timeout_s):
            return 0
    lines = "\n".join(f"  {_text(key, state)}" for key, state in left.items())
    advice = "It is still asked for, and is done as soon as it can be; see `acmgctl status`"
    raise CtlError(f"not {aim} after {timeout_s:.0f} s:\n{lines}\n{advice}")


def _text(key: Key, state: ServiceState | None) -> str:
    name = "/".join(key)
    return name if state is None else f"{name} ({state.state}{f': {state.reason}' if state.reason else ''})"


async def _states(client: KubeClient, namespace: str) -> dict[Key, ServiceState]:
    """Return where the Services of a namespace stand."""
    services = await list_all(client, SERVICES.path(namespace))
    slices = await list_all(client, ENDPOINT_SLICES.path(namespace), labelSelector=f"{MANAGED_BY_LABEL}={MANAGED_BY}")
    space = await find(client, NAMESPACES.path("", namespace), may_be_hidden=True)
    asked = named(await list_kind(client, VIRTUAL_SERVICES))
    traces = collect(services, slices)
    plain = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
    return {
        key: state_of(one, judged(one, space, is_named=key in asked), traces.get(key))
        for key, one in plain.items()
        if SHADOW_LABEL not in (one["metadata"].get("labels") or {})
    }
