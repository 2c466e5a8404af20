# SPDX-License-Identifier: Apache-2.0
"""`acmgctl install`: everything acmgproxy needs in a cluster, checked first, then applied, then waited for.

Nothing is written before the API server has been reached, our rights have been asked for, and every object has passed a dry run.
What is applied is the whole wanted state, so a second run changes nothing, and a run with other values or another release is an
upgrade.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acmgproxy.ctl.apply import Applied, Outcome, apply
from acmgproxy.ctl.cluster import NAMESPACE, NOT_DONE, CtlError, Where, connected, find, run, until
from acmgproxy.ctl.inventory import delete
from acmgproxy.ctl.kinds import DAEMON_SETS, DEPLOYMENTS, describe, name_of, path_of
from acmgproxy.ctl.plan import check_version, make_plan, rendered, rights_to_install, workload
from acmgproxy.ctl.progress import wait_until_running
from acmgproxy.ctl.rights import demand
from acmgproxy.ctl.rollout import version_of
from acmgproxy.ctl.switch import switch_on
from acmgproxy.ctl.terminal import Progress, ask, say, warn
from routing.capture import CAPTURE_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmgproxy.ctl.cluster import Object
    from acmgproxy.ctl.plan import Plan
    from discovery.kube import KubeClient

__all__ = ["InstallOptions", "run_install"]

_INSTEAD = ", or let one run `acmgctl manifest generate | kubectl apply --server-side -f -`"

_ESTABLISH_TIMEOUT_S = 30.0
"""How long a definition may take to be served; it is normally there within a second."""

_STYLES = {Outcome.CREATED: "green", Outcome.CONFIGURED: "yellow", Outcome.REMOVED: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """What the command line says. `assignments` are the values of --set."""

    where: Where
    assignments: tuple[str, ...]
    dry_run: bool
    timeout_s: float
    yes: bool


def run_install(options: InstallOptions) -> int:
    """Install; return the exit code."""
    return run(lambda: _install(options))


async def _install(options: InstallOptions) -> int:
    objects = rendered(options.assignments)
    async with connected(options.where) as client:
        version = await check_version(client)
        say(f"Cluster {client.server}, Kubernetes {version}", style="dim")
        plan = await make_plan(client, objects)
        await demand(client, rights_to_install(plan), instead=_INSTEAD)
        checked = [await apply(client, obj, dry_run=True, stand_in=plan.lacks_namespace(obj)) for obj in plan.applied]
        leftovers = [Applied(obj, Outcome.REMOVED, "not part of these values") for obj in await plan.leftovers(client)]
        await _tell_versions(client, objects)
        changes = [applied for applied in (*checked, *leftovers) if applied.outcome is not Outcome.UNCHANGED]
        if options.dry_run or not changes:
            _print(plan, checked, leftovers, suffix=" (dry run)" if options.dry_run else "")
        else:
            _ask(options, client)
            await _apply(client, plan, leftovers)
        if options.dry_run:
            say(f"The API server accepts every object. Nothing was changed; {len(changes)} of them would be.")
            return 0
        if not await switch_on(client):
            warn(f"capture is switched off for the whole cluster: the Namespace {NAMESPACE} is labelled {CAPTURE_LABEL}=disabled")
        await wait_until_running(client, objects, timeout_s=options.timeout_s)
    say(f"acmgproxy {version_of(workload(objects, 'DaemonSet'))} is running. Next: acmgctl capture SERVICE", style="bold green")
    return 0


async def _tell_versions(client: KubeClient, objects: Sequence[Object]) -> None:
    for kind, what in ((DAEMON_SETS, "gateways"), (DEPLOYMENTS, "controller")):
        wanted = workload(objects, kind.kind)
        present, version = version_of(await find(client, path_of(wanted))), version_of(wanted)
        if present and present != version:
            say(f"Version of the {what}: {present} -> {version}", style="yellow")


def _ask(options: InstallOptions, client: KubeClient) -> None:
    if not options.yes and sys.stdin.isatty() and not ask(f"Install acmgproxy in {client.server}?"):
        raise CtlError("nothing was changed. --dry-run shows what would be", code=NOT_DONE)


async def _apply(client: KubeClient, plan: Plan, leftovers: Sequence[Applied]) -> None:
    """Apply object by object, wait for what is not served at once, and remove what is left of earlier values."""
    for obj in plan.objects:
        found = plan.kept.get(path_of(obj))
        _print_one(await apply(client, obj, dry_run=False) if found is None else _kept(found))
        if found is None and obj["kind"] == "CustomResourceDefinition":
            await _established(client, obj)
    for leftover in leftovers:
        await delete(client, path_of(leftover.obj), uid=leftover.obj["metadata"]["uid"])
        _print_one(leftover)


async def _established(client: KubeClient, obj: Object) -> None:
    """Wait until a definition is served.

    Raises:
        CtlError: the API server does not take it, or not in time.
    """
    reasons: list[str] = []

    async def served() -> bool:
        conditions = ((await client.get(path_of(obj))).get("status") or {}).get("conditions") or ()
        reasons[:] = [f"{one['type']}: {one.get('message', '')}" for one in conditions if one.get("status") != "True"]
        return any(one["type"] == "Established" and one.get("status") == "True" for one in conditions)

    with Progress() as progress:
        if await served():
            return
        progress.say(f"{describe(obj)}: waiting until it is served")
        if not await until(served, timeout_s=_ESTABLISH_TIMEOUT_S, poll_s=0.1):
            why = f" ({'; '.join(reasons)})" if reasons else ""
            see = f"See `kubectl describe crd {name_of(obj)[1]}`"
            raise CtlError(f"{describe(obj)} is not served after {_ESTABLISH_TIMEOUT_S:.0f} s{why}. {see}")


def _kept(found: Object) -> Applied:
    versions = ", ".join(one["name"] for one in found["spec"].get("versions") or () if one.get("served"))
    return Applied(found, Outcome.KEPT, f"somebody else's, serves {versions}")


def _print(plan: Plan, checked: Sequence[Applied], leftovers: Sequence[Applied], *, suffix: str) -> None:
    outcomes = {path_of(applied.obj): applied for applied in checked}
    for obj in plan.objects:
        found = plan.kept.get(path_of(obj))
        _print_one(outcomes[path_of(obj)] if found is None else _kept(found), suffix)
    for leftover in leftovers:
        _print_one(leftover, suffix)


def _print_one(applied: Applied, suffix: str = "") -> None:
    note = f"{suffix}{f' ({applied.note})' if applied.note else ''}"
    say(f"{describe(applied.obj)} {applied.outcome}{note}", style=_STYLES.get(applied.outcome, "dim"))
