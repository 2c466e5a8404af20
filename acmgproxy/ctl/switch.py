# SPDX-License-Identifier: Apache-2.0
"""The switch for the whole cluster: the label on our own Namespace that makes every controller release everything.

`uninstall` turns it off, so that not even a controller that runs elsewhere captures again, and leaves a mark; `install` turns it
on again if it finds that mark. Somebody who turned it off by hand has no mark and is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NAMESPACE, find
from discovery.kube import NAMESPACES, ApiError
from routing.capture import CAPTURE_LABEL

if TYPE_CHECKING:
    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["MARK", "is_off", "switch_off", "switch_on"]

MARK = "acmg.io/switched-off-by"
"""Annotation on our Namespace: which command turned capture off."""

_PATH = NAMESPACES.path("", NAMESPACE)


def is_off(namespace: Object | None) -> bool:
    """Tell from our Namespace whether capture is switched off."""
    return (((namespace or {}).get("metadata") or {}).get("labels") or {}).get(CAPTURE_LABEL) == "disabled"


async def switch_off(client: KubeClient) -> None:
    """Make every controller release everything. Without our Namespace there is none."""
    namespace = await find(client, _PATH)
    if namespace is None or is_off(namespace):
        return
    body = {"metadata": {"labels": {CAPTURE_LABEL: "disabled"}, "annotations": {MARK: "acmgctl-uninstall"}}}
    try:
        await client.patch(_PATH, body)
    except ApiError as error:
        if error.status != 404:
            raise


async def switch_on(client: KubeClient) -> bool:
    """Undo `switch_off`; return False if capture stays off because somebody else wants it so."""
    namespace = await find(client, _PATH)
    if namespace is None or not is_off(namespace):
        return True
    if MARK not in (namespace["metadata"].get("annotations") or {}):
        return False
    await client.patch(_PATH, {"metadata": {"labels": {CAPTURE_LABEL: None}, "annotations": {MARK: None}}})
    return True
