# SPDX-License-Identifier: Apache-2.0
"""Lists and gets: versions, pages, selectors, discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.kube.kit import PODS, SERVICES, pod, service

if TYPE_CHECKING:
    from tests.kube import FakeApiServer
    from tests.unit.kube.kit import Client

ALL = "/api/v1/services"


async def test_list_says_the_newest_version_and_items_of_built_in_kinds_do_not_say_their_kind(
    api: FakeApiServer, client: Client
) -> None:
    api.put(service("a"))
    _, listed = await client.get(ALL)
    assert (listed["kind"], listed["apiVersion"]) == ("ServiceList", "v1")
    assert listed["metadata"]["resourceVersion"] == str(api.version)
    assert not {"kind", "apiVersion"} & set(listed["items"][0])
    _, got = await client.get(f"{SERVICES}/a")
    assert (got["kind"], got["apiVersion"]) == ("Service", "v1")


async def test_items_are_sorted_by_namespace_and_name(api: FakeApiServer, client: Client) -> None:
    for name in ("b", "c", "a"):
        api.put(service(name))
    api.put(service("z") | {"metadata": {"name": "z", "namespace": "apart"}})
    assert await client.names(ALL) == ["z", "a", "b", "c"]
    assert await client.names(SERVICES) == ["a", "b", "c"]


async def test_exact_version_lists_the_past(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    api.put(service("b"))
    then = api.version
    api.delete("Service", "default", "a")
    api.put(service("c"))
    assert await client.names(ALL, resourceVersion=then, resourceVersionMatch="Exact") == ["a", "b"]
    assert await client.names(ALL, resourceVersion=then) == ["b", "c"]
    assert await client.names(ALL, resourceVersion=0) == ["b", "c"]


async def test_exact_version_that_is_forgotten_is_410(api: FakeApiServer, client: Client) -> None:
    api.put(service("a"))
    then = api.version
    api.faults.compact()
    status, body = await client.get(ALL, resourceVersion=then, resourceVersionMatch="Exact")
    assert (status, body["reason"]) == (410, "Expired")


async def test_version_of_the_future_is_504(api: FakeApiServer, client: Client) -> None:
    status, body = await client.get(ALL, resourceVersion=api.version + 1)
    assert status == 504
    assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_pages_show_the_version_they_began_with(api: FakeApiServer, client: Client) -> None:
    for name in ("a", "b", "c"):
        api.put(service(name))
    _, first = await client.get(ALL, limit=2)
    assert first["metadata"]["remainingItemCount"] == 1
    api.delete("Service", "default", "c")
    _, second = await client.get(ALL, **{"limit": 2, "continue": first["metadata"]["continue"]})
    assert [item["metadata"]["name"] for item in second["items"]] == ["c"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


async def test_old_continue_token_is_410_with_one_to_go_on_inconsistently(api: FakeApiServer, client: Client) -> None:
    for name in ("a", "b", "c"):
        api.put(service(name))
    _, first = await client.get(ALL, limit=1)
    api.faults.compact()
    api.put(service("d"))
    status, gone = await client.get(ALL, **{"limit": 1, "continue": first["metadata"]["continue"]})
    assert (status, gone["reason"]) == (410, "Expired")
    assert await client.names(ALL, **{"continue": gone["metadata"]["continue"]}) == ["b", "c", "d"]


async def test_continue_token_that_is_none_is_400(client: Client) -> None:
    assert (await client.get(ALL, **{"continue": "x"}))[0] == 400


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=front", ["a"]),
        ("tier==front", ["a"]),
        ("tier!=front", ["b", "c"]),
        ("tier in (front,back)", ["a", "b"]),
        ("tier notin (front, back)", ["c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier,app=x", ["b"]),
        ("tier in (front,back),app=x", ["b"]),
    ],
)
async def test_label_selectors(api: FakeApiServer, client: Client, selector: str, names: list[str]) -> None:
    for name, labels in (("a", {"tier": "front"}), ("b", {"tier": "back", "app": "x"}), ("c", {"app": "x"})):
        api.put(service(name) | {"metadata": {"name": name, "labels": labels}})
    assert await client.names(ALL, labelSelector=selector) == names


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("spec.nodeName=node-1", ["a"]),
        ("spec.nodeName!=node-1", ["b"]),
        ("metadata.name=b", ["b"]),
        ("metadata.namespace=default,status.phase=Running", ["a", "b"]),
        ("status.podIP=10.0.0.2", ["b"]),
    ],
)
async def test_field_selectors(api: FakeApiServer, client: Client, selector: str, names: list[str]) -> None:
    api.put(pod("a", "10.0.0.1"))
    api.put(pod("b", "10.0.0.2", nodeName="node-2"))
    assert await client.names(PODS, fieldSelector=selector) == names


async def test_events_are_selected_by_what_they_are_about(api: FakeApiServer, client: Client) -> None:
    for name in ("a", "b"):
        involved = {"kind": "Service", "namespace": "default", "name": name}
        api.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"e-{name}"}, "involvedObject": involved})
    selector = "involvedObject.kind=Service,involvedObject.name=b"
    assert await client.names("/api/v1/namespaces/default/events", fieldSelector=selector) == ["e-b"]


@pytest.mark.parametrize("query", [{"fieldSelector": "spec.other=1"}, {"labelSelector": "a in (b"}, {"limit": "x"}])
async def test_what_cannot_be_selected_by_is_400(client: Client, query: dict[str, str]) -> None:
    assert (await client.get(PODS, **query))[0] == 400


@pytest.mark.parametrize(
    "query",
    [
        {"resourceVersionMatch": "Exact"},
        {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
        {"resourceVersion": "1", "resourceVersionMatch": "Nearly"},
        {"sendInitialEvents": "true"},
        {"watch": "1", "resourceVersion": "1", "resourceVersionMatch": "NotOlderThan"},
        {"watch": "1", "sendInitialEvents": "true"},
    ],
)
async def test_options_that_contradict_each_other_are_422(client: Client, query: dict[str, str]) -> None:
    assert (await client.get(ALL, **query))[0] == 422


async def test_paths_that_mean_nothing_are_404(client: Client) -> None:
    for path in ("/api/v1/things", "/apis/none/v1/things", "/api/v1/namespaces/default/nodes", f"{SERVICES}/a/b/c", "/api/v2"):
        status, body = await client.get(path)
        assert (status, body["kind"]) == (404, "Status"), path


async def test_discovery_lists_kinds_with_their_verbs(client: Client) -> None:
    assert (await client.get("/api"))[1]["versions"] == ["v1"]
    groups = {group["name"] for group in (await client.get("/apis"))[1]["groups"]}
    assert {"apps", "discovery.k8s.io", "apiextensions.k8s.io"} <= groups
    _, listed = await client.get("/api/v1")
    found = {one["name"]: one for one in listed["resources"]}
    assert found["services"]["kind"] == "Service"
    assert "watch" in found["services"]["verbs"]
    assert "services/status" in found
    assert (await client.get("/apis/apps"))[1]["preferredVersion"]["groupVersion"] == "apps/v1"
    assert (await client.get("/version"))[1]["gitVersion"].startswith("v1.")
    assert (await client.get("/readyz")) == (200, b"ok")
    _, index = await client.get("/openapi/v3")
    _, document = await client.get(index["paths"]["apis/apps/v1"]["serverRelativeURL"])
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in document["paths"]


async def test_requests_are_logged(api: FakeApiServer, client: Client) -> None:
    await client.get(ALL, limit=3)
    await client.get(f"{SERVICES}/none")
    assert [(one.method, one.path, one.status) for one in api.requests] == [("GET", ALL, 200), ("GET", f"{SERVICES}/none", 404)]
    assert (api.requests[0].query, api.requests[0].user_agent) == ({"limit": "3"}, "tester/1")


async def test_token_is_asked_for_and_can_be_rotated(api: FakeApiServer, client: Client) -> None:
    api.rotate_token("first")
    assert (await client.get(ALL))[0] == 401
    client.headers["Authorization"] = "Bearer first"
    assert (await client.get(ALL))[0] == 200
    api.rotate_token("second")
    status, body = await client.get(ALL)
    assert (status, body["reason"]) == (401, "Unauthorized")
