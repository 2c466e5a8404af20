# SPDX-License-Identifier: Apache-2.0
"""Server-side apply: who owns what, what goes, and who is in whose way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.kube.kit import SERVICES, SLICES, service

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

WEB = f"{SERVICES}/web"
TYPED = {"apiVersion": "v1", "kind": "Service"}


def meta(**fields: Any) -> dict[str, Any]:
    return {**TYPED, "metadata": {"name": "web", **fields}}


def owners(obj: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", ())}


async def test_apply_creates_and_owns_what_it_names(client: Client) -> None:
    status, made = await client.apply(WEB, service())
    assert status == 201
    assert owners(made) == {
        ("one", "Apply"): {
            "f:spec": {
                "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}}},
                "f:selector": {},
            }
        }
    }


async def test_apply_of_the_same_changes_nothing(api: FakeApiServer, client: Client) -> None:
    await client.apply(WEB, service())
    version = api.version
    assert (await client.apply(WEB, service()))[0] == 200
    assert api.version == version


async def test_field_that_is_no_longer_applied_goes(client: Client) -> None:
    await client.apply(WEB, service() | meta(labels={"a": "1", "b": "2"}))
    _, applied = await client.apply(WEB, service() | meta(labels={"a": "1"}))
    assert applied["metadata"]["labels"] == {"a": "1"}


async def test_port_that_is_no_longer_applied_goes_with_its_defaults(client: Client) -> None:
    await client.apply(WEB, service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]))
    _, applied = await client.apply(WEB, service(ports=[{"name": "b", "port": 81}]))
    assert [port["port"] for port in applied["spec"]["ports"]] == [81]


async def test_field_that_somebody_else_owns_too_stays(client: Client) -> None:
    await client.apply(WEB, service() | meta(labels={"a": "1"}))
    await client.apply(WEB, meta(labels={"a": "1"}), manager="two")
    _, applied = await client.apply(WEB, service())
    assert applied["metadata"]["labels"] == {"a": "1"}


async def test_conflict_names_the_manager_and_the_field(client: Client) -> None:
    await client.apply(WEB, service() | meta(labels={"a": "1"}))
    status, body = await client.apply(WEB, meta(labels={"a": "2"}), manager="two")
    assert (status, body["reason"]) == (409, "Conflict")
    assert body["message"] == 'Apply failed with 1 conflict: conflict with "one" using v1: .metadata.labels.a'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "one" using v1', "field": ".metadata.labels.a"}
    assert body["details"]["causes"] == [cause]


async def test_force_takes_the_field(client: Client) -> None:
    await client.apply(WEB, service() | meta(labels={"a": "1"}))
    status, applied = await client.apply(WEB, meta(labels={"a": "2"}), manager="two", force="true")
    assert (status, applied["metadata"]["labels"]) == (200, {"a": "2"})
    assert "f:metadata" not in owners(applied)["one", "Apply"]


async def test_labels_are_granular(client: Client) -> None:
    await client.apply(WEB, service() | meta(labels={"a": "1"}))
    status, applied = await client.apply(WEB, meta(labels={"b": "2"}), manager="two")
    assert (status, applied["metadata"]["labels"]) == (200, {"a": "1", "b": "2"})


async def test_selector_is_atomic(client: Client) -> None:
    await client.apply(WEB, service())
    change = {**meta(), "spec": {"selector": {"app": "web", "more": "x"}}}
    status, body = await client.apply(WEB, change, manager="two")
    assert (status, body["details"]["causes"][0]["field"]) == (409, ".spec.selector")
    # a merge patch may add a key; the next forced apply takes it away again
    await client.merge(WEB, {"spec": {"selector": {"captured": "true"}}})
    _, applied = await client.apply(WEB, service(), force="true")
    assert applied["spec"]["selector"] == {"app": "web"}


async def test_update_takes_ownership_so_that_an_apply_conflicts(client: Client) -> None:
    await client.apply(WEB, service())
    _, patched = await client.merge(WEB, {"spec": {"selector": {"captured": "true"}}}, fieldManager="controller")
    assert owners(patched)["controller", "Update"] == {"f:spec": {"f:selector": {}}}
    assert "f:selector" not in owners(patched)["one", "Apply"]["f:spec"]
    status, body = await client.apply(WEB, service())
    assert status == 409
    assert 'conflict with "controller" using v1 at 20' in body["message"]


async def test_manager_of_an_update_is_the_client_unless_it_says(client: Client) -> None:
    _, made = await client.post(SERVICES, service())
    assert ("tester", "Update") in owners(made)


async def test_ports_are_told_apart_by_number_and_protocol(client: Client) -> None:
    await client.apply(WEB, service(ports=[{"name": "a", "port": 53, "protocol": "UDP"}, {"name": "b", "port": 53}]))
    change = {**meta(), "spec": {"ports": [{"port": 53, "protocol": "TCP", "targetPort": 5353}]}}
    status, applied = await client.apply(WEB, change, manager="two")
    assert status == 200
    assert [(port["protocol"], port["targetPort"]) for port in applied["spec"]["ports"]] == [("UDP", 53), ("TCP", 5353)]


async def test_endpoints_are_atomic(client: Client) -> None:
    path = f"{SLICES}/s"
    body: dict[str, Any] = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"}}
    body |= {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}
    await client.apply(path, body)
    _, applied = await client.apply(path, body | {"endpoints": [{"addresses": ["10.0.0.3"]}]})
    assert applied["endpoints"] == [{"addresses": ["10.0.0.3"]}]
    assert owners(applied)["one", "Apply"] == {"f:addressType": {}, "f:endpoints": {}}


async def test_owner_references_are_told_apart_by_uid(client: Client) -> None:
    def owner(uid: str) -> dict[str, str]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid}

    await client.apply(WEB, service() | meta(ownerReferences=[owner("a")]))
    _, applied = await client.apply(WEB, meta(ownerReferences=[owner("b")]), manager="two")
    assert [one["uid"] for one in applied["metadata"]["ownerReferences"]] == ["a", "b"]


async def test_object_without_owners_was_there_before_the_first_apply(api: FakeApiServer, client: Client) -> None:
    api.put(service())
    status, body = await client.apply(WEB, service(selector={"app": "other"}))
    assert status == 409
    assert '"before-first-apply"' in body["message"]
    status, applied = await client.apply(WEB, service() | meta(labels={"a": "1"}))
    assert (status, applied["metadata"]["labels"]) == (200, {"a": "1"})


async def test_apply_needs_a_manager(client: Client) -> None:
    status, body = await client.ask("PATCH", WEB, service(), kind="application/apply-patch+yaml")
    assert status == 422
    assert "fieldManager: Required" in body["message"]


async def test_apply_checks_the_version_it_names(client: Client) -> None:
    await client.apply(WEB, service())
    assert (await client.apply(WEB, service() | meta(resourceVersion="1")))[0] == 409


async def test_apply_to_status_owns_the_status_alone(client: Client) -> None:
    _, made = await client.apply(WEB, service())
    condition = {"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status, applied = await client.apply(f"{WEB}/status", {**meta(), "status": {"conditions": [condition]}}, manager="two")
    assert (status, applied["status"]["conditions"]) == (200, [condition])
    assert applied["spec"] == made["spec"]
    entry = next(one for one in applied["metadata"]["managedFields"] if one["manager"] == "two")
    assert entry["subresource"] == "status"


async def test_apply_of_an_unknown_field_is_refused(client: Client) -> None:
    status, body = await client.apply(WEB, {**service(), "sepc": {}})
    assert status == 500
    assert ".sepc: field not declared in schema" in body["message"]
    status, body = await client.apply(WEB, {**service(), "sepc": {}}, fieldValidation="Strict")
    assert (status, body["reason"]) == (400, "BadRequest")


async def test_apply_creates_only_where_its_namespace_is(client: Client) -> None:
    body = service() | {"metadata": {"name": "web", "namespace": "none"}}
    assert (await client.apply("/api/v1/namespaces/none/services/web", body))[0] == 404


async def test_owners_can_be_given_up(client: Client) -> None:
    await client.apply(WEB, service())
    change = [{"op": "replace", "path": "/metadata/managedFields", "value": []}]
    _, patched = await client.ask("PATCH", WEB, change, kind="application/json-patch+json")
    assert owners(patched) == {}
