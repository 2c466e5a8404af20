# SPDX-License-Identifier: Apache-2.0
"""Create, replace, patch, delete: conflicts, what the server sets, dry runs, finalizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.kube.kit import PODS, SERVICES, pod, service

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

WEB = f"{SERVICES}/web"
MAPS = "/api/v1/namespaces/default/configmaps"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def config_map(name: str = "m", **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "data": {"a": "1"}}


async def test_create_sets_what_only_the_server_sets(api: FakeApiServer, client: Client) -> None:
    status, made = await client.post(MAPS, config_map(uid="mine", creationTimestamp="2001-01-01T00:00:00Z"))
    meta = made["metadata"]
    assert (status, meta["namespace"], meta["resourceVersion"]) == (201, "default", str(api.version))
    assert meta["uid"] != "mine"
    assert not meta["creationTimestamp"].startswith("2001")


async def test_create_again_is_409(client: Client) -> None:
    await client.post(MAPS, config_map())
    status, body = await client.post(MAPS, config_map())
    assert (status, body["reason"], body["message"]) == (409, "AlreadyExists", 'configmaps "m" already exists')


async def test_create_in_a_missing_namespace_is_404(client: Client) -> None:
    status, body = await client.post("/api/v1/namespaces/none/configmaps", config_map())
    assert (status, body["message"]) == (404, 'namespaces "none" not found')


async def test_create_in_a_terminating_namespace_is_403(api: FakeApiServer, client: Client) -> None:
    api.put(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ending", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    )
    status, body = await client.post("/api/v1/namespaces/ending/configmaps", config_map())
    assert (status, body["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")


async def test_generate_name_makes_different_names(client: Client) -> None:
    names = set()
    for _ in range(3):
        status, made = await client.post(MAPS, {"metadata": {"generateName": "m-"}})
        assert status == 201
        names.add(made["metadata"]["name"])
    assert len(names) == 3
    assert all(name.startswith("m-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"name": "m", "resourceVersion": "1"}},
        {"apiVersion": "v2", "metadata": {"name": "m"}},
        {"kind": "Secret", "metadata": {"name": "m"}},
        {"metadata": {"name": "m", "namespace": "other"}},
        {"metadata": []},
        [],
    ],
)
async def test_what_is_no_object_for_this_path_is_400(client: Client, body: Any) -> None:
    assert (await client.post(MAPS, body))[0] == 400


async def test_body_of_another_type_is_415(client: Client) -> None:
    assert (await client.ask("POST", MAPS, {}, kind="application/vnd.kubernetes.protobuf"))[0] == 415


async def test_replace_of_an_old_version_is_409(client: Client) -> None:
    _, made = await client.post(MAPS, config_map())
    first = made | {"data": {"a": "2"}}
    status, second = await client.ask("PUT", f"{MAPS}/m", first)
    assert (status, second["data"]) == (200, {"a": "2"})
    status, body = await client.ask("PUT", f"{MAPS}/m", first)
    assert (status, body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in body["message"]


async def test_replace_without_a_version_is_unconditional(client: Client) -> None:
    await client.post(MAPS, config_map())
    status, _ = await client.ask("PUT", f"{MAPS}/m", config_map() | {"data": {}})
    assert status == 200


async def test_replace_of_another_incarnation_is_409(client: Client) -> None:
    await client.post(MAPS, config_map())
    assert (await client.ask("PUT", f"{MAPS}/m", config_map(uid="other")))[0] == 409


async def test_replace_of_what_is_not_there_is_404(client: Client) -> None:
    assert (await client.ask("PUT", f"{MAPS}/m", config_map()))[0] == 404


async def test_write_that_changes_nothing_keeps_the_version(api: FakeApiServer, client: Client) -> None:
    _, made = await client.post(MAPS, config_map())
    status, same = await client.merge(f"{MAPS}/m", {"data": {"a": "1"}})
    assert (status, same["metadata"]["resourceVersion"]) == (200, made["metadata"]["resourceVersion"])
    assert api.version == int(made["metadata"]["resourceVersion"])


async def test_generation_counts_changes_of_the_spec_alone(client: Client) -> None:
    body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}
    _, made = await client.post(SLICES, body)
    assert made["metadata"]["generation"] == 1
    _, labelled = await client.merge(f"{SLICES}/s", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    _, changed = await client.merge(f"{SLICES}/s", {"endpoints": []})
    assert changed["metadata"]["generation"] == 2


async def test_status_is_written_through_its_subresource_only(client: Client) -> None:
    body = {**pod("p"), "status": {"phase": "Running"}}
    _, made = await client.post(PODS, body)
    assert made["status"] == {"phase": "Pending"}
    _, patched = await client.merge(f"{PODS}/p", {"status": {"phase": "Running"}, "metadata": {"labels": {"a": "b"}}})
    assert (patched["status"]["phase"], patched["metadata"]["labels"]["a"]) == ("Pending", "b")
    change = {"status": {"phase": "Running"}, "metadata": {"labels": {"a": "c"}}, "spec": {"nodeName": "x"}}
    status, patched = await client.merge(f"{PODS}/p/status", change)
    assert (status, patched["status"]["phase"], patched["metadata"]["labels"]["a"]) == (200, "Running", "b")
    assert patched["spec"]["nodeName"] == "node-1"
    assert (await client.merge(f"{MAPS}/m/status", {}))[0] == 404


async def test_dry_run_answers_and_stores_nothing(api: FakeApiServer, client: Client) -> None:
    status, made = await client.post(MAPS, config_map(), dryRun="All")
    assert (status, made["data"]) == (201, {"a": "1"})
    assert api.get("ConfigMap", "default", "m") is None
    await client.post(MAPS, config_map())
    version = api.version
    _, patched = await client.merge(f"{MAPS}/m", {"data": {"a": "2"}}, dryRun="All")
    assert patched["data"] == {"a": "2"}
    assert (await client.ask("DELETE", f"{MAPS}/m", dryRun="All"))[0] == 200
    assert api.version == version
    assert (await client.post(MAPS, config_map("n"), dryRun="Some"))[0] == 400


async def test_merge_patch_removes_by_null(client: Client) -> None:
    await client.post(SERVICES, service())
    change = {"spec": {"selector": {"app": None, "other": "x"}}, "metadata": {"labels": {"a": "b"}}}
    _, patched = await client.merge(WEB, change)
    assert (patched["spec"]["selector"], patched["metadata"]["labels"]) == ({"other": "x"}, {"a": "b"})


async def test_json_patch_does_all_or_nothing(client: Client) -> None:
    await client.post(SERVICES, service())
    change = [
        {"op": "test", "path": "/spec/selector/app", "value": "web"},
        {"op": "add", "path": "/metadata/labels", "value": {"a~b/c": "1"}},
        {"op": "move", "from": "/metadata/labels/a~0b~1c", "path": "/metadata/labels/d"},
        {"op": "copy", "from": "/metadata/labels/d", "path": "/metadata/labels/e"},
        {"op": "add", "path": "/spec/ports/-", "value": {"name": "b", "port": 81}},
        {"op": "replace", "path": "/spec/ports/0/port", "value": 82},
        {"op": "add", "path": "/spec/ports/0", "value": {"name": "c", "port": 83}},
        {"op": "remove", "path": "/spec/selector/app"},
    ]
    status, patched = await client.ask("PATCH", WEB, change, kind=JSON_PATCH)
    assert status == 200
    assert patched["metadata"]["labels"] == {"d": "1", "e": "1"}
    assert [port["port"] for port in patched["spec"]["ports"]] == [83, 82, 81]
    status, body = await client.ask("PATCH", WEB, change, kind=JSON_PATCH)
    assert (status, body["reason"]) == (422, "Invalid")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "replace", "path": "/spec/none", "value": 1}, 422),
        ({"op": "remove", "path": "/spec/ports/5"}, 422),
        ({"op": "add", "path": "/spec/ports/5", "value": {}}, 422),
        ({"op": "jump", "path": "/spec"}, 400),
        ({"op": "add", "path": "spec", "value": {}}, 400),
    ],
)
async def test_json_patch_that_does_not_fit_is_refused(client: Client, change: Any, status: int) -> None:
    await client.post(SERVICES, service())
    assert (await client.ask("PATCH", WEB, [change], kind=JSON_PATCH))[0] == status


async def test_strategic_merge_patch_merges_ports_by_number(client: Client) -> None:
    await client.post(SERVICES, service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]))
    change: dict[str, Any] = {"spec": {"ports": [{"port": 81, "targetPort": 8081}, {"port": 82, "name": "c"}]}}
    _, patched = await client.ask("PATCH", WEB, change, kind=STRATEGIC)
    assert [(port["name"], port["targetPort"]) for port in patched["spec"]["ports"]] == [("a", 80), ("b", 8081), ("c", 82)]
    change = {"spec": {"$setElementOrder/ports": [{"port": 82}, {"port": 80}], "ports": [{"port": 81, "$patch": "delete"}]}}
    _, patched = await client.ask("PATCH", WEB, change, kind=STRATEGIC)
    assert [port["name"] for port in patched["spec"]["ports"]] == ["c", "a"]
    change = {"spec": {"selector": {"$patch": "replace", "x": "y"}}}
    _, patched = await client.ask("PATCH", WEB, change, kind=STRATEGIC)
    assert patched["spec"]["selector"] == {"x": "y"}


async def test_strategic_merge_patch_replaces_endpoints(client: Client) -> None:
    endpoints = [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]
    await client.post(SLICES, {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints})
    change = {"endpoints": [{"addresses": ["10.0.0.3"]}]}
    _, patched = await client.ask("PATCH", f"{SLICES}/s", change, kind=STRATEGIC)
    assert patched["endpoints"] == change["endpoints"]


async def test_patch_with_an_old_version_is_409(api: FakeApiServer, client: Client) -> None:
    _, made = await client.post(MAPS, config_map())
    change = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"a": "2"}}
    assert (await client.merge(f"{MAPS}/m", change))[0] == 200
    assert (await client.merge(f"{MAPS}/m", change))[0] == 409


async def test_patch_of_an_unknown_kind_is_415(client: Client) -> None:
    await client.post(MAPS, config_map())
    assert (await client.ask("PATCH", f"{MAPS}/m", {}, kind="application/json"))[0] == 415


async def test_delete_answers_and_removes(api: FakeApiServer, client: Client) -> None:
    await client.post(MAPS, config_map())
    status, body = await client.ask("DELETE", f"{MAPS}/m")
    assert (status, body["status"]) == (200, "Success")
    assert (await client.ask("DELETE", f"{MAPS}/m"))[0] == 404


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_delete_with_a_precondition_that_fails_is_409(api: FakeApiServer, client: Client, field: str) -> None:
    _, made = await client.post(MAPS, config_map())
    status, _ = await client.ask("DELETE", f"{MAPS}/m", {"preconditions": {field: "other"}})
    assert status == 409
    status, _ = await client.ask("DELETE", f"{MAPS}/m", {"preconditions": {field: made["metadata"][field]}})
    assert status == 200


async def test_collection_is_deleted_by_selector(api: FakeApiServer, client: Client) -> None:
    await client.post(MAPS, config_map("a", labels={"x": "y"}))
    await client.post(MAPS, config_map("b"))
    await client.ask("DELETE", MAPS, labelSelector="x=y")
    assert [one["metadata"]["name"] for one in api.objects("ConfigMap")] == ["b"]


async def test_finalizer_holds_an_object_until_it_is_removed(api: FakeApiServer, client: Client) -> None:
    await client.post(MAPS, config_map(finalizers=["test/hold"]))
    _, held = await client.ask("DELETE", f"{MAPS}/m")
    assert held["metadata"]["deletionTimestamp"]
    status, _ = await client.merge(f"{MAPS}/m", {"metadata": {"finalizers": ["test/hold", "test/more"]}})
    assert status == 422
    await client.merge(f"{MAPS}/m", {"metadata": {"finalizers": None}})
    assert api.get("ConfigMap", "default", "m") is None


async def test_running_pod_is_given_time(api: FakeApiServer, client: Client) -> None:
    api.put(pod("p", "10.0.0.1"))
    status, body = await client.ask("DELETE", f"{PODS}/p")
    assert (status, body["metadata"]["deletionGracePeriodSeconds"]) == (200, 30)
    assert api.get("Pod", "default", "p") is not None
    await client.ask("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert api.get("Pod", "default", "p") is None


async def test_pod_on_no_node_goes_at_once(api: FakeApiServer, client: Client) -> None:
    api.put(pod("p", nodeName=""))
    await client.ask("DELETE", f"{PODS}/p")
    assert api.get("Pod", "default", "p") is None


async def test_namespace_takes_what_is_in_it(api: FakeApiServer, client: Client) -> None:
    await client.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    await client.post("/api/v1/namespaces/shop/configmaps", config_map(finalizers=["test/hold"]))
    assert (await client.get("/api/v1/namespaces/shop"))[1]["metadata"]["labels"] == {"kubernetes.io/metadata.name": "shop"}
    await client.ask("DELETE", "/api/v1/namespaces/shop")
    assert api.get("Namespace", "", "shop") is None
    assert api.objects("ConfigMap") == []


async def test_writes_are_told_with_their_method(api: FakeApiServer, client: Client) -> None:
    seen: list[tuple[str, str]] = []
    api.on_write(lambda method, obj: seen.append((method, obj["metadata"]["name"])))
    await client.post(MAPS, config_map(), dryRun="All")
    await client.post(MAPS, config_map())
    await client.merge(f"{MAPS}/m", {"data": None})
    await client.ask("DELETE", f"{MAPS}/m")
    assert seen == [("POST", "m"), ("PATCH", "m"), ("DELETE", "m")]


async def test_put_makes_the_namespace_and_checks_nothing(api: FakeApiServer) -> None:
    stored = api.put(service("Bad_Name") | {"metadata": {"name": "Bad_Name", "namespace": "new"}})
    assert stored["spec"]["clusterIP"].startswith("10.96.")
    assert api.get("Namespace", "", "new") is not None
    odd = api.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd"}, "spec": 3}, verbatim=True)
    assert odd["spec"] == 3


async def test_method_that_does_not_fit_is_405(client: Client) -> None:
    assert (await client.ask("PUT", MAPS, config_map()))[0] == 405
