# SPDX-License-Identifier: Apache-2.0
"""What of acmgproxy is in a cluster: found by the label of everything that its manifests make, whoever applied them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NAMESPACE, OURS, list_all
from acmgproxy.ctl.kinds import KINDS, in_order
from discovery.kube import ApiError

if TYPE_CHECKING:
    from acmgproxy.ctl.cluster import Object
    from discovery.kube import ApiKind, KubeClient

__all__ = ["APART", "delete", "installed", "is_ours", "objects_of"]

APART = frozenset({"Namespace", "CustomResourceDefinition"})
"""Kinds whose objects may hold what is not ours."""


def is_ours(obj: Object) -> bool:
    """Tell whether an object is one that acmgproxy's manifests have made."""
    name, _, value = OURS.partition("=")
    return bool((obj["metadata"].get("labels") or {}).get(name) == value)


async def installed(client: KubeClient) -> list[Object]:
    """Return our objects, in the order of installation; but for the namespace and the definitions of kinds."""
    return in_order(
        [obj for kind in KINDS.values() if kind.kind not in APART for obj in await objects_of(client, kind, labelSelector=OURS)]
    )


async def objects_of(client: KubeClient, kind: ApiKind, **query: str) -> list[Object]:
    """Return objects of a kind, those of our namespace if it has namespaces. Each says its kind, which items of lists do not."""
    items = await list_all(client, kind.path(NAMESPACE), **query)
    return [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in items]


async def delete(client: KubeClient, path: str, *, uid: str | None = None, resource_version: str | None = None) -> bool:
    """Delete an object, of this incarnation and version if given; return False if it was not there.

    Raises:
        ApiError: it failed; 409 if it is another one by now.
    """
    try:
        await client.delete(path, uid=uid, resource_version=resource_version)
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True
