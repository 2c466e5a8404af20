# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import msgspec
import pytest

from routing.resources import decode
from tests.cases.model import Case
from tests.cases.scene import Addresses, Scene, marker


def _scene(**case: Any) -> Scene:
    return Scene(Addresses(99), msgspec.convert({"id": "x", "requests": [{"host": "b"}], "expect": {}} | case, Case))


def _objects(scene: Scene, kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in scene.manifests(1) if thing["kind"] == kind}


SETUP: dict[str, Any] = {
    "not_ready": ["a"],
    "terminating": ["b-v1"],
    "extra_services": [{"namespace": "other", "name": "b", "versions": ["v9"]}],
    "external_name": {"nick": "c.default.svc.cluster.local"},
    "headless_statefulset": {"db": 2},
    "localities": {"c-v1": "r/z/s"},
}


def test_the_gateway_can_read_every_object() -> None:
    scene = _scene(setup=SETUP)
    for thing in [*scene.manifests(1), marker("127.99.4.1", 1)]:
        decode(thing)


@pytest.mark.parametrize(
    ("host", "namespace", "service"),
    [
        ("b", "default", ("default", "b")),
        ("B.:80", "default", ("default", "b")),
        ("b", "other", ("other", "b")),
        ("b", "third", None),
        ("b", None, None),
        ("b.default", "third", ("default", "b")),
        ("b.default.svc", None, ("default", "b")),
        ("b.other.svc.cluster.local", None, ("other", "b")),
        ("b.other.svc.cluster", None, None),
        ("b.example", None, None),
        ("nick", "default", None),
        ("db", "default", None),
        ("db-0.db", "default", None),
        ("127.99.1.1", None, ("default", "a")),
    ],
)
def test_a_host_means_a_service_to_its_caller(host: str, namespace: str | None, service: tuple[str, str] | None) -> None:
    found = _scene(setup=SETUP).service_of(host, namespace)
    assert (found.key if found is not None else None) == service


def test_endpoints_tell_the_state_of_pods() -> None:
    slices = _objects(_scene(setup=SETUP), "EndpointSlice")
    assert [endpoint["conditions"]["ready"] for endpoint in slices["a-1"]["endpoints"]] == [False, False]
    assert [endpoint["conditions"]["terminating"] for endpoint in slices["c-1"]["endpoints"]] == [False, False]
    assert [endpoint["hostname"] for endpoint in slices["db-1"]["endpoints"]] == ["db-0", "db-1"]


def test_pods_of_different_cases_are_different_pods() -> None:
    scene = _scene()
    first, second = ({thing["metadata"].get("uid") for thing in scene.manifests(number)} - {None} for number in (1, 2))
    assert first
    assert first.isdisjoint(second)


def test_names_of_pods() -> None:
    scene = _scene(setup=SETUP)
    assert scene.members("b") == {("default", "b-v1"), ("default", "b-v2")}
    assert scene.members("b-v1") == {("default", "b-v1")}
    assert scene.members("other/b") == scene.members("b.other") == {("other", "b-v9")}
    assert scene.pods_called("b/v2") == {("default", "b-v2")}
    assert scene.pods_called("db") == {("default", "db-0"), ("default", "db-1")}
    assert scene.ready_peers([("default", "b-v2")]) == {("default", "b-v2")}
    assert not scene.members("nobody")


def test_a_pod_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="nobody"):
        _scene(setup={"not_ready": ["nobody"]})


def test_a_case_may_bring_a_service() -> None:
    spec = {"selector": {"app": "c"}, "ports": [{"name": "web", "port": 9000, "targetPort": 8090}]}
    scene = _scene(resources=[{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "own"}, "spec": spec}])
    service = scene.service_of("own", "default")
    assert service is not None
    assert service.address.startswith("127.99.1.")
    assert _objects(scene, "EndpointSlice")["own-1"]["ports"][0]["port"] == 8090


def test_callers_differ_by_namespace_and_labels() -> None:
    scene = _scene(requests=[{"host": "b"}, {"host": "b", "from_namespace": "other"}, {"host": "b", "from_namespace": None}])
    callers = [name for name in _objects(scene, "Pod") if name.startswith("caller-")]
    assert len(callers) == 2
