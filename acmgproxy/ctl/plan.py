# SPDX-License-Identifier: Apache-2.0
"""What an installation is going to do to a cluster as it is: apply, keep, remove. Nothing here writes.

Definitions of kinds that somebody else brought (Istio's) are kept exactly as they are. Objects of ours that are not part of the
wanted state any more are removed; but never the namespace or a definition, which may hold what is not ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NAMESPACE, NOT_DONE, CtlError, find
from acmgproxy.ctl.inventory import installed, is_ours
from acmgproxy.ctl.kinds import KINDS, in_order, name_of, path_of
from acmgproxy.ctl.manifests import ManifestsError, ValuesError, parse_values, render
from acmgproxy.ctl.rights import Right, to_apply, to_delete, to_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["Plan", "check_version", "make_plan", "rendered", "rights_to_install", "workload"]

OLDEST = (1, 30)
"""The oldest Kubernetes that knows every field of the manifests (a preStop that sleeps came last)."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is going to be done.

    Args:
        objects: The wanted state, in order.
        kept: Objects in its place that belong to somebody else, by path.
        namespaces: Those among the wanted objects' that exist.
    """

    objects: list[Object]
    kept: dict[str, Object]
    namespaces: frozenset[str]

    @property
    def applied(self) -> list[Object]:
        """The objects that are applied."""
        return [obj for obj in self.objects if path_of(obj) not in self.kept]

    def lacks_namespace(self, obj: Object) -> bool:
        """Tell whether an object is to be in a namespace that does not exist yet."""
        namespace = name_of(obj)[0]
        return bool(namespace) and namespace not in self.namespaces

    async def leftovers(self, client: KubeClient) -> list[Object]:
        """Return what an earlier installation had and this one has not, last ones first.

        Raises:
            CtlError: we may not delete it.
        """
        wanted = set(map(path_of, self.objects))
        return [obj for obj in reversed(await installed(client)) if path_of(obj) not in wanted]


def rendered(assignments: Sequence[str]) -> list[Object]:
    """Return the objects that values make, in the order of installation.

    Raises:
        CtlError: a value cannot be as it is said.
    """
    try:
        return in_order(render(parse_values(assignments)))
    except ValuesError as error:
        raise CtlError(f"--set {error}\nAll keys: acmgctl manifest values", code=NOT_DONE) from error
    except ManifestsError as error:
        raise CtlError(str(error), code=NOT_DONE) from error


def workload(objects: Sequence[Object], kind: str) -> Object:
    """Return the one object of a kind."""
    return next(obj for obj in objects if obj["kind"] == kind)


async def check_version(client: KubeClient) -> str:
    """Return the API server's version.

    Raises:
        CtlError: it is too old.
    """
    answer = await client.get("/version")
    version = str(answer.get("gitVersion", "?"))
    digits = ["".join(char for char in str(answer.get(part, "")) if char.isdigit()) for part in ("major", "minor")]
    if all(digits) and tuple(map(int, digits)) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CtlError(
            f"{client.server} is Kubernetes {version}; acmgproxy needs {oldest} or later. Upgrade the cluster first",
            code=NOT_DONE,
        )
    return version


async def make_plan(client: KubeClient, objects: Sequence[Object]) -> Plan:
    """Look at what is there already. What we may not see is among the rights that are asked for next.

    Raises:
        CtlError: a namespace is just being deleted.
    """
    kept: dict[str, Object] = {}
    for obj in objects:
        if obj["kind"] == "CustomResourceDefinition":
            found = await find(client, path_of(obj), may_be_hidden=True)
            if found is not None and not is_ours(found):
                kept[path_of(obj)] = found
    wanted = sorted({namespace for namespace, _ in map(name_of, objects) if namespace})
    return Plan(
        objects=list(objects), kept=kept, namespaces=frozenset([one for one in wanted if await _has_namespace(client, one)])
    )


async def _has_namespace(client: KubeClient, name: str) -> bool:
    found = await find(client, KINDS["Namespace"].path("", name), may_be_hidden=True)
    if found is not None and found["metadata"].get("deletionTimestamp"):
        raise CtlError(
            f"the namespace {name} is still being deleted. Run the command again when it is gone: kubectl get namespace {name}",
            code=NOT_DONE,
        )
    return found is not None


def rights_to_install(plan: Plan) -> set[Right]:
    """Return every right that an installation takes: to apply, to find and remove leftovers, to follow what becomes of it."""
    removable = [obj for obj in plan.objects if obj["kind"] == "PodDisruptionBudget"]
    progress = {Right("list", "", "pods", NAMESPACE), Right("list", "", "nodes")}
    return to_apply(plan.applied) | to_list() | to_delete(removable) | progress
