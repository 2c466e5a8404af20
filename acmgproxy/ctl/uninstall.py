# SPDX-License-Identifier: Apache-2.0
"""`acmgctl uninstall`: gives all traffic back, makes sure of it, and only then deletes anything.

The controller is stopped and kept from working by its Lease and the switch; every captured Service is released; when no trace of
capture is left in the cluster, our objects are deleted, what runs first. It may be stopped at any point: what is left is found
again by what it is.
Definitions of kinds and the namespace go with --purge only, and only if they are ours and hold nothing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import (
    CONTROLLER,
    GATEWAY,
    NAMESPACE,
    NOT_DONE,
    OURS,
    CtlError,
    Where,
    connected,
    find,
    list_all,
    run,
    until,
)
from acmgproxy.ctl.inventory import delete, installed, is_ours
from acmgproxy.ctl.kinds import CRDS, DEPLOYMENTS, KINDS, describe, path_of
from acmgproxy.ctl.lease import held_lease
from acmgproxy.ctl.releasing import Releasing, look
from acmgproxy.ctl.rights import Right, demand, to_list
from acmgproxy.ctl.switch import switch_off
from acmgproxy.ctl.terminal import Progress, ask, say, warn
from discovery.kube import ENDPOINT_SLICES, LEASES, NAMESPACES, PODS, SERVICES, ApiError, ApiKind

if TYPE_CHECKING:
    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["UninstallOptions", "run_uninstall"]

_STOP_TIMEOUT_S = 45.0
"""How long controller pods are waited for: their grace period is 30 s. Who does not stop is kept from working by the Lease."""

_GONE_TIMEOUT_S = 90.0
"""How long the namespace is waited for: the gateways' grace period is 60 s. The cluster goes on deleting it without us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UninstallOptions:
    """What the command line says."""

    where: Where
    purge: bool
    timeout_s: float
    linger_s: float
    yes: bool


def run_uninstall(options: UninstallOptions) -> int:
    """Uninstall; return the exit code."""
    return run(lambda: _uninstall(options))


async def _uninstall(options: UninstallOptions) -> int:
    async with connected(options.where) as client:
        await demand(client, _rights(options), instead="")
        objects, traces = await installed(client), await look(client)
        captured = sum(one.any for one in traces.values())
        _ask(options, f"{len(objects)} objects of acmgproxy in {client.server}, after releasing {captured} Services")
        with Progress() as progress:
            await switch_off(client)
            await _stop_controller(client, progress)
            async with held_lease(client, progress.say):
                releasing = Releasing(client, progress.say, linger_s=options.linger_s)
                await releasing.run(timeout_s=options.timeout_s)
                _tell_released(releasing)
                for obj in reversed(objects):
                    if await delete(client, path_of(obj)):
                        say(f"{describe(obj)} deleted")
            await delete(client, LEASES.path(NAMESPACE, CONTROLLER))
            if options.purge:
                await _purge(client, progress)
    say("acmgproxy is uninstalled" if objects else "acmgproxy was not installed; nothing is left of it", style="bold green")
    if not options.purge:
        say(f"The namespace {NAMESPACE} and the definitions of kinds are still there; --purge deletes them too", style="dim")
    return 0


def _rights(options: UninstallOptions) -> set[Right]:
    rights = {Right("delete", kind.group, kind.plural, NAMESPACE if kind.namespaced else "") for kind in KINDS.values()}
    if not options.purge:
        rights -= {Right("delete", CRDS.group, CRDS.plural), Right("delete", "", "namespaces")}
    release = {
        Right(verb, kind.group, kind.plural)
        for kind, verbs in ((SERVICES, ("list", "create", "patch", "delete")), (ENDPOINT_SLICES, ("list", "update", "delete")))
        for verb in verbs
    }
    leases = {Right(verb, LEASES.group, LEASES.plural, NAMESPACE) for verb in ("get", "create", "update", "delete")}
    stop = {
        Right("patch", "apps", "deployments", NAMESPACE),
        Right("list", "", "pods", NAMESPACE),
        Right("patch", "", "namespaces"),
    }
    return {*rights, *release, *leases, *stop, *to_list()}


def _ask(options: UninstallOptions, what: str) -> None:
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise CtlError(f"this deletes {what}. Say that you mean it with -y; nothing was changed", code=NOT_DONE)
    if not ask(f"Delete {what}?"):
        raise CtlError("nothing was changed", code=NOT_DONE)


async def _stop_controller(client: KubeClient, progress: Progress) -> None:
    path = DEPLOYMENTS.path(NAMESPACE, CONTROLLER)
    try:
        await client.patch(path, {"spec": {"replicas": 0}})
    except ApiError as error:
        if error.status != 404:
            raise
    left: list[str] = []

    async def stopped() -> bool:
        pods = await list_all(client, PODS.path(NAMESPACE), labelSelector=f"{OURS},app.kubernetes.io/component=controller")
        left[:] = [pod["metadata"]["name"] for pod in pods]
        progress.say(f"stopping the controller: {len(left)} pods left")
        return not left

    if not await until(stopped, timeout_s=_STOP_TIMEOUT_S):
        warn(f"{', '.join(left)} did not stop within {_STOP_TIMEOUT_S:.0f} s; going on, since the Lease keeps them from working")


def _tell_released(releasing: Releasing) -> None:
    for namespace, name in sorted(releasing.released):
        say(f"Service {namespace}/{name} released")
    say("No Service is captured any more: all traffic is direct")


async def _purge(client: KubeClient, progress: Progress) -> None:
    for obj in await list_all(client, CRDS.path(), labelSelector=OURS):
        await _purge_definition(client, obj)
    namespace = await find(client, NAMESPACES.path("", NAMESPACE))
    if namespace is None:
        return
    if not is_ours(namespace):
        say(f"Namespace {NAMESPACE} kept: acmgproxy did not make it")
        return
    await delete(client, NAMESPACES.path("", NAMESPACE))

    async def gone() -> bool:
        progress.say(f"waiting until the gateways ({GATEWAY}) have finished their requests and the namespace {NAMESPACE} is gone")
        return await find(client, NAMESPACES.path("", NAMESPACE)) is None

    if await until(gone, timeout_s=_GONE_TIMEOUT_S):
        say(f"Namespace {NAMESPACE} deleted")
    else:
        warn(f"the namespace {NAMESPACE} is still being deleted; `kubectl describe namespace {NAMESPACE}` says what it waits for")


async def _purge_definition(client: KubeClient, obj: Object) -> None:
    spec, name = obj["spec"], obj["metadata"]["name"]
    kind = ApiKind(
        spec["group"],
        next(one["name"] for one in spec["versions"] if one["served"]),
        spec["names"]["plural"],
        spec["names"]["kind"],
    )
    held = await list_all(client, kind.path())
    if held:
        say(f"CustomResourceDefinition {name} kept: there are {len(held)} objects of the kind {kind.kind}")
    elif await delete(client, CRDS.path("", name), uid=obj["metadata"]["uid"]):
        say(f"CustomResourceDefinition {name} deleted")
