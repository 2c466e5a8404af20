# SPDX-License-Identifier: Apache-2.0
"""What it costs to follow a cluster of 5,000 Services with 10 Pods each: the first translation, and one change of each kind.

A change is what a source gives (an object) and ends with the difference that is sent to workers, so all that blocks the
supervisor's loop is in it. Every fifth Service has a VirtualService and a DestinationRule, all have a gateway port.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from discovery.objects import ObjectChanges, key_of
from discovery.pipeline import Pipeline
from routing.capture import GATEWAY_PORTS_ANNOTATION, SERVICE_NAME_LABEL, SHADOW_LABEL, SHADOW_OF_LABEL, format_gateway_ports
from routing.resources import EndpointSlice, Pod, Service, decode
from routing.translate import TranslateOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from routing.resources import Resource

SERVICES = 5_000
PODS_EACH = 10
OPTIONS = TranslateOptions(listeners="gateway-ports", gateway_addresses=("10.250.0.1",))


def _service(name: str, namespace: str, number: int) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    ports = [{"name": "http", "port": 80}]
    spec = {"clusterIP": f"10.96.{number // 256}.{number % 256}", "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _shadow(name: str, namespace: str, number: int) -> dict[str, Any]:
    labels = {SHADOW_LABEL: "true", SHADOW_OF_LABEL: name}
    annotations = {GATEWAY_PORTS_ANNOTATION: format_gateway_ports({80: 20000 + number})}
    meta = {"name": f"{name}-acmg", "namespace": namespace, "labels": labels, "annotations": annotations}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    }


def _pod(service: str, namespace: str, number: int) -> dict[str, Any]:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{service}-6d4b75cb6d", "controller": True}
    labels = {"app": service, "version": f"v{number % 2}", "pod-template-hash": "6d4b75cb6d"}
    meta = {"name": f"{service}-6d4b75cb6d-{number}", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": "Running", "podIP": _address(number)}}


def _address(number: int) -> str:
    return f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"


def _slice(service: str, namespace: str, pods: list[dict[str, Any]]) -> dict[str, Any]:
    labels = {SERVICE_NAME_LABEL: f"{service}-acmg", SHADOW_LABEL: "true", SHADOW_OF_LABEL: service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-acmg-x", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            {"addresses": [pod["status"]["podIP"]], "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"]}} for pod in pods
        ],
    }


def _rule_objects(service: str, namespace: str, weight: int = 10) -> Iterator[dict[str, Any]]:
    meta = {"name": service, "namespace": namespace}
    subsets = [{"name": version, "labels": {"version": version}} for version in ("v0", "v1")]
    route = [
        {"destination": {"host": service, "subset": "v0"}, "weight": 100 - weight},
        {"destination": {"host": service, "subset": "v1"}, "weight": weight},
    ]
    api = "networking.istio.io/v1"
    yield {
        "apiVersion": api,
        "kind": "VirtualService",
        "metadata": meta,
        "spec": {"hosts": [service], "http": [{"route": route}]},
    }
    policy = {"connectionPool": {"tcp": {"maxConnections": weight}}}
    spec = {"host": service, "subsets": subsets, "trafficPolicy": policy}
    yield {"apiVersion": api, "kind": "DestinationRule", "metadata": meta, "spec": spec}


def _objects() -> Iterator[dict[str, Any]]:
    for number in range(SERVICES):
        name, namespace = f"service-{number}", f"ns-{number % 50}"
        pods = [_pod(name, namespace, number * PODS_EACH + index) for index in range(PODS_EACH)]
        yield from (_service(name, namespace, number), _shadow(name, namespace, number), _slice(name, namespace, pods), *pods)
        if number % 5 == 0:
            yield from _rule_objects(name, namespace)


def _put(*resources: Resource) -> ObjectChanges:
    return ObjectChanges({key_of(resource): resource for resource in resources}, frozenset(), ())


class Cluster:
    """The objects, and a pipeline that has them all."""

    def __init__(self) -> None:
        self.objects = [decode(obj) for obj in _objects()]
        self.published = 0
        self.pipeline = self.fresh()

    def fresh(self) -> Pipeline:
        """Return a pipeline that was given everything at once."""
        pipeline = Pipeline(OPTIONS, lambda specs, change: self._note())
        pipeline.apply(_put(*self.objects))
        return pipeline

    def _note(self) -> None:
        self.published += 1

    def one(self, kind: type[Resource], number: int = 0) -> Any:
        """Return an object of a kind."""
        return [resource for resource in self.objects if type(resource) is kind][number]

    def follow(self, changes: Iterator[ObjectChanges]) -> None:
        """Apply the next change, which must make a difference."""
        before = self.published
        self.pipeline.apply(next(changes))
        assert self.published == before + 1


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The cluster, made once."""
    return Cluster()


def test_everything_at_once(benchmark: BenchmarkFixture, cluster: Cluster) -> None:
    """The first translation, with the filling of the store."""
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        cluster.fresh, rounds=3
    )


def test_a_slice(benchmark: BenchmarkFixture, cluster: Cluster) -> None:
    """An endpoint that leaves and comes back."""
    found: EndpointSlice = cluster.one(EndpointSlice, 7)
    shorter = replace(found, endpoints=found.endpoints[1:])
    changes = (_put(shorter if index % 2 else found) for index in count(1))
    benchmark(cluster.follow, changes)


def test_a_pod_with_other_labels(benchmark: BenchmarkFixture, cluster: Cluster) -> None:
    """Another identity, as caller and as endpoint."""
    found: Pod = cluster.one(Pod, 70)
    other = replace(found, meta=replace(found.meta, labels=found.meta.labels | {"app": "other"}))
    changes = (_put(other if index % 2 else found) for index in count(1))
    benchmark(cluster.follow, changes)


def test_a_pod_that_comes_and_goes(benchmark: BenchmarkFixture, cluster: Cluster) -> None:
    """A caller, and the identity of an endpoint."""
    found: Pod = cluster.one(Pod, 71)
    gone = ObjectChanges({}, frozenset({key_of(found)}), ())
    changes = (gone if index % 2 else _put(found) for index in count(1))
    benchmark(cluster.follow, changes)


@pytest.mark.parametrize("kind", ["VirtualService", "DestinationRule"])
def test_a_rule(benchmark: BenchmarkFixture, cluster: Cluster, kind: str) -> None:
    """Another weight, another limit."""
    versions = [[decode(obj) for obj in _rule_objects("service-0", "ns-0", weight) if obj["kind"] == kind] for weight in (10, 20)]
    changes = (_put(*versions[index % 2]) for index in count(1))
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        cluster.follow, (changes,), rounds=20
    )


def test_a_service(benchmark: BenchmarkFixture, cluster: Cluster) -> None:
    """Another balancer."""
    found: Service = cluster.one(Service)
    other = replace(found, spec=replace(found.spec, session_affinity="ClientIP"))
    changes = (_put(other if index % 2 else found) for index in count(1))
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        cluster.follow, (changes,), rounds=20
    )
