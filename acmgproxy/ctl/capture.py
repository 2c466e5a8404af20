# SPDX-License-Identifier: Apache-2.0
"""`acmgctl capture` and `acmgctl release`: ask for it by label, and wait until the controller has done it.

What cannot be captured is told before anything is changed, for the reason that the controller would give. A whole namespace is
asked for on the Namespace; its Services that cannot be captured are told and do no harm.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from acmgproxy.ctl.cluster import (
    CONTROLLER,
    FIELD_MANAGER,
    NAMESPACE,
    NOT_DONE,
    CtlError,
    Where,
    connected,
    find,
    list_all,
    list_kind,
    run,
)
from acmgproxy.ctl.kinds import DEPLOYMENTS
from acmgproxy.ctl.services import judged, named, port_uses, with_label
from acmgproxy.ctl.switch import is_off
from acmgproxy.ctl.terminal import say, warn
from acmgproxy.ctl.waiting import wait_for
from discovery.kube import NAMESPACES, SERVICES, VIRTUAL_SERVICES, ApiError
from routing.capture import CAPTURE_LABEL, SHADOW_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmgproxy.ctl.cluster import Object
    from acmgproxy.ctl.traces import Key
    from discovery.kube import KubeClient

__all__ = ["CaptureOptions", "Target", "parse_targets", "run_capture", "run_release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOptions:
    """What the command line says. Without `names` the whole `namespace` is meant."""

    where: Where
    names: tuple[str, ...]
    namespace: str
    wait: bool
    timeout_s: float


class Target(NamedTuple):
    """A Service, or a whole namespace if the name is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.name}" if self.name else f"Namespace {self.namespace}"

    @property
    def path(self) -> str:
        """Its path in the API."""
        return SERVICES.path(self.namespace, self.name) if self.name else NAMESPACES.path("", self.namespace)


def run_capture(options: CaptureOptions) -> int:
    """Capture; return the exit code."""
    return run(lambda: _run(options, "captured"))


def run_release(options: CaptureOptions) -> int:
    """Release; return the exit code."""
    return run(lambda: _run(options, "direct"))


def parse_targets(names: Sequence[str], namespace: str, default: str) -> list[Target]:
    """Read SERVICE and NAMESPACE/SERVICE.

    Args:
        names: What was said; none is the whole `namespace`.
        namespace: Said with -n, empty if not.
        default: The context's.

    Raises:
        CtlError: it is neither.
    """
    if not names:
        if not namespace:
            raise CtlError("name a Service (SERVICE or NAMESPACE/SERVICE), or a whole namespace with -n NAMESPACE", code=NOT_DONE)
        return [Target(namespace, "")]
    targets = []
    for text in names:
        space, slash, name = text.rpartition("/")
        if not name or "/" in space or (slash and not space):
            raise CtlError(f"{text!r} is no Service; write SERVICE or NAMESPACE/SERVICE", code=NOT_DONE)
        if slash and namespace and space != namespace:
            raise CtlError(f"{text} is in namespace {space}, but -n says {namespace}; leave one of them out", code=NOT_DONE)
        targets.append(Target(space or namespace or default, name))
    return list(dict.fromkeys(targets))


async def _run(options: CaptureOptions, aim: Literal["captured", "direct"]) -> int:
    async with connected(options.where) as client:
        targets = parse_targets(options.names, options.namespace, client.namespace or "default")
        found = [(target, await _existing(client, target)) for target in targets]
        awaited: set[Key] = set()
        for target, obj in found:
            awaited |= await (_plan_capture(client, target, obj) if aim == "captured" else _plan_release(client, target))
        await _tell_of_controller(client)
        for target, obj in found:
            await _label(client, target, obj, await _wanted(client, target, aim))
        if not options.wait:
            return 0
        return await wait_for(client, awaited, aim, timeout_s=options.timeout_s)


async def _existing(client: KubeClient, target: Target) -> Object:
    obj = await find(client, target.path)
    if obj is not None:
        return obj
    listed = await list_all(client, SERVICES.path(target.namespace) if target.name else NAMESPACES.path())
    names = [one["metadata"]["name"] for one in listed]
    near = difflib.get_close_matches(target.name or target.namespace, names, n=1)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"`kubectl get {'services -A' if target.name else 'namespaces'}` shows what there is"
    )
    raise CtlError(f"there is no {target}; {hint}", code=NOT_DONE)


async def _plan_capture(client: KubeClient, target: Target, obj: Object) -> set[Key]:
    """Tell what will be captured; return it.

    Raises:
        CtlError: it is one Service, and it cannot be captured.
    """
    if target.name:
        namespace = await find(client, NAMESPACES.path("", target.namespace), may_be_hidden=True)
        verdict = judged(with_label(obj, "enabled"), namespace)
        if verdict.answer == "refused":
            raise CtlError(f"{target} cannot be captured: {verdict.reason}. Nothing was changed")
        _tell_ports(target, obj)
        return {(target.namespace, target.name)}
    awaited: set[Key] = set()
    for service in await _services(client, target.namespace):
        each = Target(target.namespace, service["metadata"]["name"])
        verdict = judged(service, with_label(obj, "enabled"))
        if verdict.answer == "captured":
            _tell_ports(each, service)
            awaited.add((each.namespace, each.name))
        else:
            say(f"{each} stays direct: {verdict.reason or f'its own label {CAPTURE_LABEL} says so'}", style="dim")
    if not awaited:
        warn(f"no Service in namespace {target.namespace} can be captured now; later ones will be")
    return awaited


def _tell_ports(target: Target, service: Object) -> None:
    uses = port_uses(service)
    through = ", ".join(str(use) for use in uses if use.through_gateway)
    direct = ", ".join(str(use) for use in uses if not use.through_gateway)
    rest = f"; direct as before: {direct} (not HTTP by name or appProtocol, or excluded)" if direct else ""
    say(f"{target}: through the gateways: port {through}{rest}")


async def _plan_release(client: KubeClient, target: Target) -> set[Key]:
    """Return the Services that become direct. Of a namespace: those that do not ask themselves."""
    if target.name:
        return {(target.namespace, target.name)}
    asked = named(await list_kind(client, VIRTUAL_SERVICES))
    awaited: set[Key] = set()
    for service in await _services(client, target.namespace):
        key = target.namespace, service["metadata"]["name"]
        own = (service["metadata"].get("labels") or {}).get(CAPTURE_LABEL)
        if own == "enabled" or (own is None and key in asked):
            why = f"its own label {CAPTURE_LABEL}" if own else f"VirtualService {asked[key]}"
            say(
                f"Service {'/'.join(key)} stays captured: {why} asks for it. `acmgctl release {'/'.join(key)}` releases it",
                style="yellow",
            )
        else:
            awaited.add(key)
    return awaited


async def _services(client: KubeClient, namespace: str) -> list[Object]:
    listed = await list_all(client, SERVICES.path(namespace))
    return [one for one in listed if SHADOW_LABEL not in (one["metadata"].get("labels") or {})]


async def _wanted(client: KubeClient, target: Target, aim: Literal["captured", "direct"]) -> str | None:
    """Return what the label must say. `disabled` where something else than the label would ask for capture."""
    if aim == "captured":
        return "enabled"
    if not target.name:
        return None
    namespace = await find(client, NAMESPACES.path("", target.namespace), may_be_hidden=True) or {"metadata": {}}
    is_enabled = (namespace["metadata"].get("labels") or {}).get(CAPTURE_LABEL) == "enabled"
    is_named = target in named(await list_kind(client, VIRTUAL_SERVICES))
    return "disabled" if is_enabled or is_named else None


async def _label(client: KubeClient, target: Target, obj: Object, value: str | None) -> None:
    if (obj["metadata"].get("labels") or {}).get(CAPTURE_LABEL) == value:
        say(f"{target}: its label {CAPTURE_LABEL} {f'is {value} already' if value else 'is not there'}", style="dim")
        return
    await client.patch(target.path, {"metadata": {"labels": {CAPTURE_LABEL: value}}}, fieldManager=FIELD_MANAGER)
    say(f"{target} labelled {CAPTURE_LABEL}={value}" if value else f"{target}: label {CAPTURE_LABEL} removed")


async def _tell_of_controller(client: KubeClient) -> None:
    """Warn if nothing will happen; whoever may only see a namespace of their own is not told."""
    if is_off(await find(client, NAMESPACES.path("", NAMESPACE), may_be_hidden=True)):
        warn(f"capture is switched off for the whole cluster; remove the label {CAPTURE_LABEL} from the Namespace {NAMESPACE}")
    try:
        deployment = await find(client, DEPLOYMENTS.path(NAMESPACE, CONTROLLER))
    except ApiError as error:
        if error.status != 403:
            raise
        return
    if deployment is None:
        warn("acmgproxy is not installed in this cluster, so nothing will happen until `acmgctl install` has run")
    elif not (deployment.get("status") or {}).get("availableReplicas"):
        warn("no controller is available, so nothing will happen until one is: see `acmgctl status`")
