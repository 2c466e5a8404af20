# SPDX-License-Identifier: Apache-2.0
"""May we do what we are about to do? Asked of the API server before the first write, so that nothing ends half done.

What cannot be asked is whether a role may be granted: that needs every right in it, and the dry run shows it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.ctl.cluster import NAMESPACE, NOT_DONE, CtlError
from acmgproxy.ctl.kinds import KINDS, kind_of, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["Right", "demand", "explain_missing", "missing", "to_apply", "to_delete", "to_list"]

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

_AT_ONCE = 8
"""Questions under way at the same time; an API server lets one client have a few dozen."""


class Right(NamedTuple):
    """A verb on a kind of objects; an empty namespace is the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str = ""


def to_apply(objects: Iterable[Object]) -> set[Right]:
    """Return the rights that a server-side apply of `objects` takes, new or not."""
    return {_right(verb, obj) for obj in objects for verb in ("get", "create", "patch")}


def to_delete(objects: Iterable[Object]) -> set[Right]:
    """Return the rights that it takes to delete `objects`."""
    return {_right(verb, obj) for obj in objects for verb in ("get", "delete")}


def to_list() -> set[Right]:
    """Return the rights that it takes to find our objects."""
    return {Right("list", kind.group, kind.plural, NAMESPACE if kind.namespaced else "") for kind in KINDS.values()}


def _right(verb: str, obj: Object) -> Right:
    kind = kind_of(obj)
    return Right(verb, kind.group, kind.plural, name_of(obj)[0])


async def missing(client: KubeClient, rights: Iterable[Right]) -> list[Right]:
    """Ask the API server for each right; return those that we do not have."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def refused(right: Right) -> bool:
        attributes = {key: value for key, value in right._asdict().items() if value}
        async with slots:
            review: Object = await client.create(
                _REVIEWS,
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "SelfSubjectAccessReview",
                    "spec": {"resourceAttributes": attributes},
                },
            )
        return not review.get("status", {}).get("allowed", False)

    ordered = sorted(set(rights))
    answers = await asyncio.gather(*map(refused, ordered))
    return [right for right, is_refused in zip(ordered, answers, strict=True) if is_refused]


def explain_missing(rights: Iterable[Right]) -> str:
    """Name missing rights by resource: `create, patch daemonsets.apps in namespace acmg-system`."""
    verbs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for right in rights:
        name = f"{right.resource}.{right.group}" if right.group else right.resource
        verbs[name, right.namespace].append(right.verb)
    return "\n".join(
        f"  {', '.join(sorted(found))} {name}{f' in namespace {namespace}' if namespace else ' in the whole cluster'}"
        for (name, namespace), found in sorted(verbs.items())
    )


async def demand(client: KubeClient, rights: Iterable[Right], *, instead: str) -> None:
    """Check that we have every one of `rights`.

    Args:
        client: The cluster.
        rights: What is about to be done.
        instead: What an administrator could do for the user.

    Raises:
        CtlError: some are missing; the text lists them.
    """
    if lacking := await missing(client, rights):
        raise CtlError(
            f"these rights are missing, and nothing was changed:\n{explain_missing(lacking)}\n"
            f"Ask an administrator of the cluster for them (the ClusterRole cluster-admin has them all){instead}",
            code=NOT_DONE,
        )
