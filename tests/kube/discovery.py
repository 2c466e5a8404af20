# SPDX-License-Identifier: Apache-2.0
"""The documents by which clients such as kubectl find out what a server serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kube.kinds import Kind, Kinds

__all__ = ["VERSION", "document"]

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2026-04-22T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def document(kinds: Kinds, path: str) -> Any:
    """Return what a path that means no object answers, None for 404."""
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["healthz" | "livez" | "readyz", *_]:
            return "ok"
        case ["openapi", "v3"]:
            return {"paths": {_prefix(kind): {"serverRelativeURL": f"/openapi/v3/{_prefix(kind)}"} for kind in kinds.all()}}
        case ["openapi", "v3", *rest]:
            return _openapi(kinds, "/".join(rest))
        case ["api" | "apis", *_] as steps:
            return _discovered(kinds, steps)
        case _:
            return None


def _discovered(kinds: Kinds, steps: list[str]) -> Any:
    match steps:
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            names = sorted({kind.group for kind in kinds.all() if kind.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(kinds, name) for name in names]}
        case ["apis", name] if any(kind.group == name for kind in kinds.all()):
            return {"kind": "APIGroup", "apiVersion": "v1"} | _group(kinds, name)
        case ["api", version]:
            return _resources(kinds, "", version)
        case ["apis", name, version]:
            return _resources(kinds, name, version)
        case _:
            return None


def _prefix(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"


def _group(kinds: Kinds, name: str) -> dict[str, Any]:
    versions = list(dict.fromkeys(kind.version for kind in kinds.all() if kind.group == name))
    named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": named, "preferredVersion": named[0]}


def _resources(kinds: Kinds, group: str, version: str) -> Any:
    resources = []
    for kind in kinds.all():
        if (kind.group, kind.version) != (group, version):
            continue
        one: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.singular or kind.kind.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _VERBS,
        }
        resources.append(one | ({"shortNames": list(kind.short_names)} if kind.short_names else {}))
        if kind.status:
            resources.append(one | {"name": f"{kind.plural}/status", "singularName": "", "verbs": ["get", "patch", "update"]})
    if not resources:
        return None
    api_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}


def _openapi(kinds: Kinds, prefix: str) -> Any:
    """Return paths only: enough for a client to learn that the server validates fields and knows dry runs."""
    paths = {}
    for kind in kinds.all():
        if _prefix(kind) == prefix:
            parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")]
            gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
            patch = {"parameters": parameters, "x-kubernetes-group-version-kind": gvk, "responses": {}}
            paths[f"{kind.path('{namespace}', '{name}')}"] = {"patch": patch}
    if not paths:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": {"schemas": {}},
    }
