# SPDX-License-Identifier: Apache-2.0
"""Server-side apply of one object, and what it changed.

What changed is told by comparing the object before and after: the API server merges, defaults and prunes as it does for
everybody, and a dry run answers with the object as it would be. Versions, counters, book-keeping and status are not content.

A dry run of an object whose namespace does not exist yet is refused by a real server. Such an object is tried in a namespace that
surely exists: schema, defaults, admission and the rights to grant are then checked all the same, and nothing is kept.
"""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from acmgproxy.ctl.cluster import FIELD_MANAGER, NOT_DONE, CtlError, explain, find
from acmgproxy.ctl.kinds import describe, kind_of, name_of, path_of
from discovery.kube import ApiError

if TYPE_CHECKING:
    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["STAND_IN_NAMESPACE", "Applied", "Outcome", "apply", "compare"]

STAND_IN_NAMESPACE = "default"
"""Exists in every cluster and cannot be deleted."""

_NO_SUCH_KIND = ("could not find the requested resource", "page not found")
"""What API servers say of a version without the kind, and of a group they do not know."""

_BOOK_KEEPING = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")


class Outcome(StrEnum):
    """What became of an object."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REMOVED = "removed"


class Applied(NamedTuple):
    """An object and what became of it. `note` says what a person should know about that."""

    obj: Object
    outcome: Outcome
    note: str = ""


def compare(before: Object | None, after: Object) -> Outcome:
    """Tell what an apply has done to an object."""
    if before is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if _content(before) == _content(after) else Outcome.CONFIGURED


def _content(obj: Object) -> Object:
    content = {key: value for key, value in obj.items() if key != "status"}
    content["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in _BOOK_KEEPING}
    return content


async def apply(client: KubeClient, obj: Object, *, dry_run: bool, stand_in: bool = False) -> Applied:
    """Apply one object.

    Args:
        client: The cluster.
        obj: What it shall be.
        dry_run: Only ask the server what would become of it.
        stand_in: Its namespace does not exist yet: ask in another one. For dry runs.

    Raises:
        CtlError: the API server refuses the object.
        ApiError: the API server cannot be asked.
    """
    assert dry_run or not stand_in, "a stand-in is for dry runs"
    asked, note = obj, ""
    if stand_in:
        asked = copy.deepcopy(obj)
        asked["metadata"]["namespace"] = STAND_IN_NAMESPACE
        note = f"checked in namespace {STAND_IN_NAMESPACE}, {name_of(obj)[0]} does not exist yet"
    before = None if stand_in else await find(client, path_of(obj))
    try:
        after: Object = await client.apply(path_of(asked), asked, field_manager=FIELD_MANAGER, dry_run=dry_run)
    except ApiError as error:
        if dry_run and error.status == 404 and kind_of(obj).kind.endswith("RoleBinding"):
            return Applied(obj, compare(before, obj), "not checked: the role that it grants does not exist yet")
        raise CtlError(_refusal(obj, error), code=NOT_DONE) from error
    return Applied(obj, compare(before, after), note)


def _refusal(obj: Object, error: ApiError) -> str:
    if error.status == 404 and any(text in error.message for text in _NO_SUCH_KIND):
        kind = kind_of(obj)
        return (
            f"{describe(obj)}: the cluster knows no {kind.plural}.{kind.group}. Install what defines that kind, or choose values "
            "without it: `acmgctl manifest generate` shows what they make"
        )
    return f"{describe(obj)}: {explain(error)}"
