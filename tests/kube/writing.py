# SPDX-License-Identifier: Apache-2.0
"""Create, replace, patch and delete: what a write must satisfy, and what it leaves in the store.

Every write goes the same way: the new object is made, filled in, checked against the old one, its fields' owners noted, and
stored unless it is a dry run or changes nothing.
"""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.kube.apply import apply
from tests.kube.errors import ApiStatus, Cause, already_exists, bad_request, conflict, forbidden, invalid, not_found
from tests.kube.managers import Manager, Managers, now
from tests.kube.official import check_fields
from tests.kube.patching import json_patch, merge_patch, strategic_patch
from tests.kube.shapes import shapes_of
from tests.kube.store import Entry, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.defaults import Defaults
    from tests.kube.kinds import Kind, Target
    from tests.kube.store import Store

    Validate = Callable[[Kind, dict[str, Any], dict[str, Any] | None], list[Cause]]

__all__ = ["Writer"]

_SERVER_SET = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_APPLY = "application/apply-patch+yaml"


class Writer:
    """Writes objects.

    Attributes:
        validate: returns what is wrong with an object.
        prepare: changes an object before it is checked (pruning).
        on_delete: told of an object whose deletion has begun or is complete.
        gc: there is a garbage collector, so that deletion in the foreground and orphaning can be left to it.
    """

    def __init__(self, store: Store, defaults: Defaults, validate: Validate, namespaces: Kind) -> None:
        self.validate = validate
        self.prepare: Callable[[Kind, dict[str, Any]], None] = lambda kind, obj: None
        self.on_delete: Callable[[Kind, Entry, str], None] = lambda kind, entry, policy: None
        self.gc = False
        self._store = store
        self._defaults = defaults
        self._namespaces = namespaces

    def create(self, target: Target, obj: dict[str, Any], *, manager: str, dry_run: bool = False, strict: bool = False) -> Entry:
        """Create an object.

        Raises:
            ApiStatus: 400, 403, 404, 409 or 422, as it deserves.
        """
        kind = target.kind
        self._check_type(target, obj)
        check_fields(kind, obj, strict=strict)
        meta = obj.setdefault("metadata", {})
        if meta.get("generateName") and not meta.get("name"):
            meta["name"] = meta["generateName"][:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        name = meta.get("name") or ""
        self._check_namespace(target, name)
        if name and self._store.get(kind, target.namespace, name) is not None:
            raise already_exists(kind, name)
        managers = Managers(None)
        return self._store_new(target, obj, managers, dry_run=dry_run, manager=Manager(manager, "Update", kind.api_version))

    def replace(
        self, target: Target, obj: dict[str, Any], *, manager: str, dry_run: bool = False, strict: bool = False
    ) -> tuple[Entry, bool]:
        """Replace an object; tell whether it was created (which only Leases and the like allow, so never here).

        Raises:
            ApiStatus: 400, 404, 409 or 422, as it deserves.
        """
        self._check_type(target, obj)
        check_fields(target.kind, obj, strict=strict)
        live = self._live(target)
        if obj.get("metadata", {}).get("name") != target.name:
            given = obj.get("metadata", {}).get("name", "")
            raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({target.name})")
        return self._store_changed(target, live, obj, manager=manager, dry_run=dry_run), False

    def patch(
        self,
        target: Target,
        patch: Any,
        content_type: str,
        *,
        manager: str,
        force: bool = False,
        dry_run: bool = False,
        strict: bool = False,
    ) -> tuple[Entry, bool]:
        """Patch or apply an object; tell whether it was created.

        Raises:
            ApiStatus: 400, 404, 409, 415 or 422, as it deserves.
        """
        if content_type == _APPLY:
            return self._apply(target, patch, manager=manager, force=force, dry_run=dry_run, strict=strict)
        live = self._live(target)
        obj = self._patched(target, live, patch, content_type)
        check_fields(target.kind, obj, strict=strict)
        return self._store_changed(target, live, obj, manager=manager, dry_run=dry_run), False

    def _patched(self, target: Target, live: Entry, patch: Any, content_type: str) -> dict[str, Any]:
        match content_type:
            case "application/json-patch+json":
                if not isinstance(patch, list):
                    raise bad_request("a JSON patch is a list of operations")
                changed = json_patch(live.whole, patch)
            case "application/merge-patch+json":
                changed = merge_patch(decode(live.whole), patch)
            case "application/strategic-merge-patch+json" if not target.kind.custom:
                changed = strategic_patch(decode(live.whole), patch, shapes_of(target.kind))
            case _:
                known = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
                raise ApiStatus(415, f"the body of the request was in an unknown format - accepted media types include: {known}")
        if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
            raise bad_request("the patch leaves no object")
        # parts are shared with the patch; what is stored must be its own
        own: dict[str, Any] = merge_patch(None, changed) if content_type.endswith("merge-patch+json") else changed
        own["apiVersion"], own["kind"] = target.kind.api_version, target.kind.kind
        return own

    def delete(
        self, target: Target, options: dict[str, Any], *, grace_s: int | None = None, policy: str = "", dry_run: bool = False
    ) -> tuple[Entry, bool]:
        """Delete an object, or begin to; tell whether it is gone.

        Raises:
            ApiStatus: 404, it is not there; 409, a precondition does not hold.
        """
        live = self._live(target)
        self._check_preconditions(target, live, options.get("preconditions") or {})
        policy = policy or options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        grace_s = options.get("gracePeriodSeconds", grace_s)
        if dry_run:
            return live, True
        return self._delete(target.kind, live, grace_s, policy)

    def put(self, kind: Kind, obj: dict[str, Any], *, verbatim: bool = False) -> Entry:
        """Create or replace an object without any check, as tests and controllers do."""
        meta = obj["metadata"]
        namespace = meta.setdefault("namespace", "default") if kind.namespaced else ""
        live = self._store.get(kind, namespace, meta["name"])
        old = live.obj if live else None
        if not verbatim:
            self._defaults.fill(kind, obj, old)
        self._carry(kind, obj, old)
        if old is not None and "managedFields" in old["metadata"]:
            meta.setdefault("managedFields", old["metadata"]["managedFields"])
        return self._store.put(kind, obj)

    def remove_finalizer(self, kind: Kind, entry: Entry, name: str) -> None:
        """Take a finalizer off an object that is to be deleted, which completes its deletion if it was the last."""
        obj: dict[str, Any] = decode(entry.whole)
        obj["metadata"]["finalizers"] = [one for one in obj["metadata"]["finalizers"] if one != name]
        if obj["metadata"]["finalizers"]:
            self._store.put(kind, obj)
        else:
            del obj["metadata"]["finalizers"]
            self._last_finalizer(kind, obj)

    def _delete(self, kind: Kind, live: Entry, grace_s: int | None, policy: str) -> tuple[Entry, bool]:
        obj: dict[str, Any] = decode(live.whole)
        meta = obj["metadata"]
        finalizers = list(meta.get("finalizers") or ())
        if not self.gc:
            policy = "Background"
        if policy == "Foreground" and "foregroundDeletion" not in finalizers:
            finalizers.append("foregroundDeletion")
        elif policy == "Orphan" and "orphan" not in finalizers:
            finalizers.append("orphan")
        grace = self._grace(kind, obj, grace_s)
        is_namespace = kind.key == self._namespaces.key
        if not finalizers and not grace and not is_namespace:
            gone = self._store.delete(kind, meta.get("namespace", ""), meta["name"])
            assert gone is not None
            self.on_delete(kind, gone, policy)
            return gone, True
        if finalizers:
            meta["finalizers"] = finalizers
        begun = "deletionTimestamp" in meta
        if not begun or grace < meta.get("deletionGracePeriodSeconds", 0):
            meta.setdefault("deletionTimestamp", _later(grace))
            meta["deletionGracePeriodSeconds"] = grace
            if kind.generation and not begun:
                meta["generation"] = meta.get("generation", 1) + 1
        if is_namespace:
            obj.setdefault("status", {})["phase"] = "Terminating"
        entry = self._store.put(kind, obj) if obj != live.obj else live
        self.on_delete(kind, entry, policy)
        return entry, False

    @staticmethod
    def _grace(kind: Kind, obj: dict[str, Any], grace_s: int | None) -> int:
        """Return how long a Pod may still run; nothing else is given time, nor a Pod that no node runs."""
        if kind.key != ("", "pods"):
            return 0
        spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in {"Succeeded", "Failed"}:
            return 0
        return spec.get("terminationGracePeriodSeconds", 30) if grace_s is None else grace_s

    def _apply(
        self, target: Target, config: Any, *, manager: str, force: bool, dry_run: bool, strict: bool
    ) -> tuple[Entry, bool]:
        kind = target.kind
        if not manager:
            text = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            raise ApiStatus(422, text, details={"group": "meta.k8s.io", "kind": "PatchOptions"})
        if not isinstance(config, dict):
            raise bad_request("an apply patch is an object")
        self._check_type(target, config)
        check_fields(kind, config, strict=strict, apply=True)
        meta = config.setdefault("metadata", {})
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if meta.setdefault("name", target.name) != target.name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({target.name})")
        live = self._store.get(kind, target.namespace, target.name)
        if live is None and (target.subresource or meta.get("uid") or meta.get("resourceVersion")):
            raise not_found(kind, target.name)
        if not target.subresource and kind.status:
            config.pop("status", None)
        obj, managers = apply(kind, live, config, manager=manager, force=force, subresource=target.subresource)
        if live is None:
            self._check_namespace(target, target.name)
            return self._store_new(target, obj, managers, dry_run=dry_run, manager=None), True
        if version := meta.get("resourceVersion"):
            obj["metadata"]["resourceVersion"] = version
        return self._store_changed(target, live, obj, manager=manager, dry_run=dry_run, managers=managers), False

    def _store_new(
        self, target: Target, obj: dict[str, Any], managers: Managers, *, dry_run: bool, manager: Manager | None
    ) -> Entry:
        kind, meta = target.kind, obj["metadata"]
        for field in _SERVER_SET:
            meta.pop(field, None)
        meta.pop("managedFields", None)
        if kind.namespaced:
            meta["namespace"] = target.namespace
        else:
            meta.pop("namespace", None)
        if kind.status and kind.key != ("", "namespaces"):
            obj.pop("status", None)
        self.prepare(kind, obj)
        self._defaults.fill(kind, obj, None)
        self._check(kind, obj, None)
        self._carry(kind, obj, None)
        if manager is not None:
            managers.updated(manager, None, obj, shapes_of(kind))
        managers.write(obj)
        if dry_run:
            return Entry(obj, kind, self._store.version)
        return self._store.put(kind, obj)

    def _store_changed(
        self,
        target: Target,
        live: Entry,
        obj: dict[str, Any],
        *,
        manager: str,
        dry_run: bool,
        managers: Managers | None = None,
    ) -> Entry:
        kind, old = target.kind, live.obj
        meta = obj.setdefault("metadata", {})
        if kind.namespaced and meta.setdefault("namespace", target.namespace) != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        self._check_version(target, live, obj)
        if target.subresource == "status":
            self._only_status(obj, old)
        elif kind.status:
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = old["status"]
        self.prepare(kind, obj)
        self._defaults.fill(kind, obj, old)
        self._check(kind, obj, old)
        given = meta.pop("managedFields", None)
        self._carry(kind, obj, old)
        if managers is None:
            managers = Managers({"metadata": {"managedFields": given}} if given is not None else old)
            if given != []:
                me = Manager(manager, "Update", kind.api_version, target.subresource)
                managers.updated(me, old, obj, shapes_of(kind))
        managers.write(obj)
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if dry_run:
            return Entry(obj, kind, live.version)
        if meta.get("deletionTimestamp") and not meta.get("finalizers") and old["metadata"].get("finalizers"):
            return self._last_finalizer(kind, obj)
        if {**obj, "apiVersion": ""} == {**old, "apiVersion": ""}:
            return live
        return self._store.put(kind, obj)

    def _last_finalizer(self, kind: Kind, obj: dict[str, Any]) -> Entry:
        meta = obj["metadata"]
        if meta.get("deletionGracePeriodSeconds") or kind.key == self._namespaces.key:
            return self._store.put(kind, obj)
        gone = self._store.delete(kind, meta.get("namespace", ""), meta["name"])
        assert gone is not None
        self.on_delete(kind, gone, "Background")
        return Entry(obj, kind, gone.version)

    @staticmethod
    def _only_status(obj: dict[str, Any], old: dict[str, Any]) -> None:
        """Make everything but the status as it was; of the metadata, managedFields may be given."""
        status, meta = obj.get("status"), obj["metadata"]
        given = {key: meta[key] for key in ("managedFields",) if key in meta}
        meta.clear()
        meta.update(old["metadata"] | given)
        for key in [key for key in obj if key not in {"metadata", "status"}]:
            del obj[key]
        obj.update({key: value for key, value in old.items() if key not in {"metadata", "status"}})
        if status is None:
            obj.pop("status", None)

    @staticmethod
    def _carry(kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Set what only the server sets."""
        meta = obj["metadata"]
        if old is None:
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", now())
            if kind.generation:
                meta.setdefault("generation", 1)
            return
        was = old["metadata"]
        for field in _SERVER_SET:
            if field in was:
                meta[field] = was[field]
            elif field != "deletionTimestamp":
                meta.pop(field, None)
        if kind.generation and _content(obj) != _content(old):
            meta["generation"] = was.get("generation", 1) + 1

    def _check(self, kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        if causes := self.validate(kind, obj, old):
            raise invalid(kind, obj["metadata"].get("name", ""), causes)

    @staticmethod
    def _check_type(target: Target, obj: dict[str, Any]) -> None:
        kind = target.kind
        if obj.setdefault("apiVersion", kind.api_version) != kind.api_version or obj.setdefault("kind", kind.kind) != kind.kind:
            given = f"{obj.get('kind')} in version {obj.get('apiVersion')}"
            raise bad_request(f"{given} does not match the expected {kind.kind} in version {kind.api_version}")
        meta = obj.setdefault("metadata", {})
        if not isinstance(meta, dict):
            raise bad_request("metadata is no object")
        given_namespace = meta.get("namespace") or ""
        if kind.namespaced and given_namespace not in {"", target.namespace}:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")

    def _check_namespace(self, target: Target, name: str) -> None:
        if not target.kind.namespaced:
            return
        namespace = self._store.get(self._namespaces, "", target.namespace)
        if namespace is None:
            raise not_found(self._namespaces, target.namespace)
        if namespace.obj["metadata"].get("deletionTimestamp"):
            text = f"unable to create new content in namespace {target.namespace} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {target.namespace} is being terminated"}
            raise forbidden(target.kind, name, text, [cause | {"field": "metadata.namespace"}])

    def _live(self, target: Target) -> Entry:
        live = self._store.get(target.kind, target.namespace, target.name)
        if live is None:
            raise not_found(target.kind, target.name)
        return live

    @staticmethod
    def _check_version(target: Target, live: Entry, obj: dict[str, Any]) -> None:
        meta, was = obj["metadata"], live.obj["metadata"]
        if meta.get("uid") not in {None, "", was["uid"]}:
            text = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {was['uid']}"
            raise conflict(target.kind, target.name, text)
        if meta.get("resourceVersion") not in {None, "", was["resourceVersion"]}:
            text = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(target.kind, target.name, text)

    @staticmethod
    def _check_preconditions(target: Target, live: Entry, wanted: dict[str, Any]) -> None:
        was = live.obj["metadata"]
        for field, text in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(field) not in {None, was[field]}:
                said = f"Precondition failed: {text} in precondition: {wanted[field]}, {text} in object meta: {was[field]}"
                raise conflict(target.kind, target.name, said)


def _content(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status", "apiVersion", "kind"}}


def _later(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
