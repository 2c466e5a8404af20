# SPDX-License-Identifier: Apache-2.0
"""Get and list: which version of a collection is meant, and its bytes.

A list at resourceVersion "" is the newest, at "0" any, at N one not older (or, by resourceVersionMatch=Exact, exactly N); this
server always has the newest at hand, so the first three are the same. A limited list continues at the version it began with.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

import orjson

from tests.kube.errors import ApiStatus, bad_request, expired, not_found, too_large_version
from tests.kube.selectors import chooser
from tests.kube.store import Entry

if TYPE_CHECKING:
    from tests.kube.kinds import Kind, Target
    from tests.kube.requests import Query
    from tests.kube.store import Store

__all__ = ["check_list_options", "get_object", "list_bytes", "seen_as"]

CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the "
    "continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with "
    "the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class _Continue(NamedTuple):
    version: int
    start: list[str]

    def encode(self) -> str:
        data = orjson.dumps({"v": "meta.k8s.io/v1", "rv": self.version, "start": self.start})
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> _Continue:
        try:
            fields = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(int(fields["rv"]), list(fields["start"]))
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise bad_request("continue key is not valid: illegal base64 data") from None


def seen_as(entry: Entry, kind: Kind) -> Entry:
    """Return an object in the version that is asked for; only its apiVersion differs."""
    if entry.obj["apiVersion"] == kind.api_version:
        return entry
    return Entry(entry.obj, kind, entry.version)


def get_object(store: Store, target: Target, query: Query) -> bytes:
    """Return one object's bytes.

    Raises:
        ApiStatus: 404, it is not there; 504, the version asked for lies in the future.
    """
    _check_version(store, query.text("resourceVersion"))
    entry = store.get(target.kind, target.namespace, target.name)
    if entry is None:
        raise not_found(target.kind, target.name)
    return seen_as(entry, target.kind).whole


def check_list_options(query: Query, *, watch: bool, watch_list: bool) -> None:
    """Refuse options that contradict each other, as the real server does.

    Raises:
        ApiStatus: 422, with what is wrong in its text.
    """
    match, version = query.text("resourceVersionMatch"), query.text("resourceVersion")
    initial = query.has("sendInitialEvents")
    problem = ""
    if initial and watch and not watch_list:
        problem = (
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        )
    elif initial and not watch:
        problem = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    elif initial and match != "NotOlderThan":
        problem = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    elif match and watch and not initial:
        problem = (
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    elif match and match not in {"Exact", "NotOlderThan"}:
        problem = f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
    elif match and not version and not initial:
        problem = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match and query.text("continue"):
        problem = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided"
    elif match == "Exact" and version == "0":
        problem = 'resourceVersionMatch: Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
    if problem:
        field = problem.partition(":")[0]
        details = {"group": "meta.k8s.io", "kind": "ListOptions", "causes": [{"field": field, "message": problem}]}
        raise ApiStatus(422, f'ListOptions.meta.k8s.io "" is invalid: {problem}', details=details)


def list_bytes(store: Store, target: Target, query: Query) -> list[bytes]:
    """Return a list's bytes, in pieces.

    Raises:
        ApiStatus: 400, 410, 422 or 504, as the options deserve.
    """
    check_list_options(query, watch=False, watch_list=True)
    kind, namespace = target.kind, target.namespace
    chosen = chooser(kind, query.text("labelSelector"), query.text("fieldSelector"))
    start: list[str] | None = None
    if token := query.text("continue"):
        version, start = _Continue.decode(token)
        entries = _continued(store, kind, namespace, version, start)
        version = version if version >= 0 else store.version
    elif query.text("resourceVersionMatch") == "Exact" or (query.number("limit") and query.number("resourceVersion")):
        version = _check_version(store, query.text("resourceVersion"))
        entries = store.at(kind, version, namespace)
    else:
        _check_version(store, query.text("resourceVersion"))
        version, entries = store.version, store.entries(kind, namespace)
    if start is not None:
        entries = [entry for entry in entries if _place(entry) > start]
    if chosen is not None:
        entries = [entry for entry in entries if chosen(entry.obj)]
    return _encode(kind, version, entries, query.number("limit"), counted=chosen is None)


def _continued(store: Store, kind: Kind, namespace: str, version: int, start: list[str]) -> list[Entry]:
    if version < 0:
        return store.entries(kind, namespace)
    try:
        return store.at(kind, version, namespace)
    except ApiStatus:
        gone = expired(CONTINUE_EXPIRED)
        gone.meta = {"continue": _Continue(-1, start).encode()}
        raise gone from None


def _check_version(store: Store, text: str) -> int:
    if text and not text.isdecimal():
        raise bad_request(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    version = int(text or 0)
    if version > store.version:
        raise too_large_version(version, store.version)
    return version


def _place(entry: Entry) -> list[str]:
    meta = entry.obj["metadata"]
    return [meta.get("namespace", ""), meta["name"]]


def _encode(kind: Kind, version: int, entries: list[Entry], limit: int, *, counted: bool) -> list[bytes]:
    meta: dict[str, object] = {"resourceVersion": str(version)}
    if limit and len(entries) > limit:
        meta["continue"] = _Continue(version, _place(entries[limit - 1])).encode()
        if counted:
            meta["remainingItemCount"] = len(entries) - limit
        entries = entries[:limit]
    head = orjson.dumps({"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta})
    items = b",".join(
        [(entry if entry.obj["apiVersion"] == kind.api_version else seen_as(entry, kind)).bare for entry in entries]
    )
    return [head[:-1], b',"items":[', items, b"]}\n"]
