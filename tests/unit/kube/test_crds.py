# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions: their kinds come, check what is written, and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kube.schemas import Schema, prune

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/test.io/v1/namespaces/default/widgets"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "note": {"type": "string", "nullable": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "rules": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "to": {"type": "string"}}},
                },
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def definition(**changes: Any) -> dict[str, Any]:
    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, "subresources": {"status": {}}},
        {"name": "v1beta1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}},
    ]
    spec = {
        "group": "test.io",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
        "versions": versions,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.io"},
        "spec": spec | changes,
    }


def widget(name: str = "w", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "test.io/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1, **spec}}


async def test_kind_is_served_once_its_definition_is_there(api: FakeApiServer, client: Client) -> None:
    assert (await client.get(WIDGETS))[0] == 404
    status, _ = await client.post(CRDS, definition())
    assert status == 201
    assert await client.names(WIDGETS) == []
    _, listed = await client.get("/apis/test.io/v1")
    assert [one["name"] for one in listed["resources"]] == ["widgets", "widgets/status"]
    stored = api.get("CustomResourceDefinition", "", "widgets.test.io")
    assert stored is not None
    assert {one["type"] for one in stored["status"]["conditions"]} == {"Established", "NamesAccepted"}


async def test_items_of_custom_kinds_say_their_kind(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.post(WIDGETS, widget())
    _, listed = await client.get(WIDGETS)
    assert (listed["kind"], listed["items"][0]["kind"]) == ("WidgetList", "Widget")


async def test_object_is_seen_in_each_version(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.post(WIDGETS, widget())
    beta = WIDGETS.replace("v1/", "v1beta1/", 1)
    assert (await client.get(f"{beta}/w"))[1]["apiVersion"] == "test.io/v1beta1"
    async with client.watch(beta) as watch:
        assert (await watch.next())["object"]["apiVersion"] == "test.io/v1beta1"
    assert (await client.get(beta))[1]["items"][0]["apiVersion"] == "test.io/v1beta1"


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"size": 0}, "spec.size"), ({"size": "1"}, "spec.size"), ({"color": "green"}, "spec.color"), ({"note": 3}, "spec.note")],
)
async def test_object_against_the_schema_is_422(api: FakeApiServer, client: Client, spec: dict[str, Any], field: str) -> None:
    api.put(definition())
    status, body = await client.post(WIDGETS, widget(**spec))
    assert (status, body["details"]["causes"][0]["field"]) == (422, field)


async def test_unknown_fields_are_pruned_and_defaults_filled_in(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    body = widget(odd=1, free={"any": {"thing": 1}}, map={"k": {"a": "1", "b": "2"}}, port="http", note=None) | {"more": 1}
    _, made = await client.post(WIDGETS, body)
    assert made["spec"] == {
        "size": 1, "color": "red", "free": {"any": {"thing": 1}}, "map": {"k": {"a": "1"}}, "port": "http", "note": None,
    }  # fmt: skip
    assert "more" not in made


async def test_status_is_apart_and_generation_counts_the_spec(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    _, made = await client.post(WIDGETS, widget() | {"status": {"x": 1}})
    assert "status" not in made
    _, patched = await client.merge(f"{WIDGETS}/w/status", {"status": {"x": 1}, "spec": {"size": 5}})
    assert (patched["status"], patched["spec"]["size"], patched["metadata"]["generation"]) == ({"x": 1}, 1, 1)
    _, patched = await client.merge(f"{WIDGETS}/w", {"spec": {"size": 5}})
    assert (patched["status"], patched["metadata"]["generation"]) == ({"x": 1}, 2)


async def test_strategic_merge_patch_is_none_for_custom_kinds(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.post(WIDGETS, widget())
    kind = "application/strategic-merge-patch+json"
    assert (await client.ask("PATCH", f"{WIDGETS}/w", {"spec": {"size": 2}}, kind=kind))[0] == 415


async def test_apply_merges_lists_by_the_schemas_keys(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.apply(f"{WIDGETS}/w", widget(rules=[{"name": "a", "to": "1"}]))
    status, applied = await client.apply(f"{WIDGETS}/w", widget(rules=[{"name": "b", "to": "2"}]), manager="two")
    assert (status, [rule["name"] for rule in applied["spec"]["rules"]]) == (200, ["a", "b"])


async def test_deleted_definition_takes_objects_and_watches_with_it(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.post(WIDGETS, widget())
    async with client.watch(WIDGETS, resourceVersion=api.version) as watch:
        await client.ask("DELETE", f"{CRDS}/widgets.test.io")
        assert await watch.named(1) == [("DELETED", "w")]
        assert await watch.rest() == b""
    assert (await client.get(WIDGETS))[0] == 404
    await client.post(CRDS, definition())
    assert await client.names(WIDGETS) == []


async def test_history_ends_with_the_definition(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    await client.post(WIDGETS, widget())
    then = api.version
    api.delete("CustomResourceDefinition", "", "widgets.test.io")
    api.put(definition())
    async with client.watch(WIDGETS, resourceVersion=then) as watch:
        assert (await watch.next())["object"]["code"] == 410


async def test_version_that_is_no_longer_served_is_404(api: FakeApiServer, client: Client) -> None:
    api.put(definition())
    changed = definition()
    changed["spec"]["versions"][1]["served"] = False
    api.put(changed)
    assert (await client.get(WIDGETS))[0] == 200
    assert (await client.get(WIDGETS.replace("v1/", "v1beta1/", 1)))[0] == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"group": "other.io"}, "metadata.name"),
        ({"scope": "Wide"}, "spec.scope"),
        (
            {"versions": [{"name": "v1", "served": True, "storage": False, "schema": {"openAPIV3Schema": SCHEMA}}]},
            "spec.versions",
        ),
        ({"versions": [{"name": "v1", "served": True, "storage": True}]}, "spec.versions[0].schema.openAPIV3Schema"),
        (
            {"versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {}}}]},
            "spec.versions[0].schema.openAPIV3Schema.type",
        ),
    ],
)
async def test_definition_that_is_refused(client: Client, changes: dict[str, Any], field: str) -> None:
    status, body = await client.post(CRDS, definition(**changes))
    assert (status, body["details"]["causes"][0]["field"]) == (422, field)


def test_boolean_exclusive_bounds_of_openapi_hold() -> None:
    schema = Schema({"type": "object", "properties": {"a": {"type": "number", "minimum": 0, "exclusiveMinimum": True}}})
    assert schema.check({"a": 1}) == []
    assert [cause.field for cause in schema.check({"a": 0})] == ["a"]


def test_pruning_goes_into_items() -> None:
    value = {"list": [{"a": 1, "b": 2}]}
    prune(value, {"properties": {"list": {"items": {"properties": {"a": {}}}}}})
    assert value == {"list": [{"a": 1}]}
