# SPDX-License-Identifier: Apache-2.0
"""Facts about the pipeline: what is published when objects change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from discovery.objects import ObjectChanges, SourceProblem, key_of
from discovery.pipeline import Pipeline
from routing.diff import apply
from routing.resources import decode
from routing.specs import Specs, SpecsDiff
from routing.translate import TranslateOptions, _translator, translate

if TYPE_CHECKING:
    from routing.resources import Resource

SERVICE = decode({
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a"},
    "spec": {"clusterIP": "127.0.0.9", "ports": [{"name": "http", "port": 80}]},
})  # fmt: skip


def slice_of(*addresses: str, pod: str = "") -> Resource:
    ref = {"targetRef": {"kind": "Pod", "name": pod, "namespace": "default"}} if pod else {}
    return decode({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a-1", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], **ref} for address in addresses],
    })  # fmt: skip


def pod(name: str, address: str) -> Resource:
    meta = {"name": name, "labels": {"app": name}}
    return decode({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": "Running", "podIP": address}})


def put(*resources: Resource, problems: tuple[SourceProblem, ...] = ()) -> ObjectChanges:
    return ObjectChanges({key_of(resource): resource for resource in resources}, frozenset(), problems)


class Published:
    """Checks that every difference published leads to the specs published with it."""

    def __init__(self) -> None:
        self.specs = Specs()
        self.changes: list[SpecsDiff] = []
        self.names: list[frozenset[str]] = []
        self.pipeline = Pipeline(TranslateOptions(), self._publish, look_up=self.names.append)

    def _publish(self, specs: Specs, change: SpecsDiff) -> None:
        self.specs = apply(self.specs, change)
        assert self.specs == specs
        self.changes.append(change)
        assert change.version == len(self.changes)

    def addresses(self) -> set[str]:
        return {member.address for members in self.specs.endpoints.values() for member in members}


@pytest.fixture
def published() -> Published:
    return Published()


def test_the_first_specs_are_published_even_when_empty(published: Published) -> None:
    published.pipeline.apply(put())
    assert published.changes == [SpecsDiff(version=1)]
    published.pipeline.apply(put())
    assert len(published.changes) == 1
    assert "version=1" in repr(published.pipeline)


def test_what_changes_nothing_is_not_published(published: Published) -> None:
    published.pipeline.apply(put(SERVICE, slice_of("10.0.0.1")))
    published.pipeline.apply(put(decode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})))
    assert len(published.changes) == 1


def test_members_alone_are_published_alone(published: Published) -> None:
    published.pipeline.apply(put(SERVICE, slice_of("10.0.0.1")))
    published.pipeline.apply(put(slice_of("10.0.0.1", "10.0.0.2")))
    assert published.addresses() == {"10.0.0.1", "10.0.0.2"}
    published.pipeline.apply(put(slice_of("10.0.0.1", "10.0.0.2")))
    published.pipeline.apply(ObjectChanges({}, frozenset({key_of(slice_of())}), ()))
    assert published.addresses() == set()
    assert len(published.changes) == 3
    assert [published.changes[1].put.virtual_hosts, published.changes[1].removed] == [{}, {}]


def test_a_pod_is_published_as_caller_and_endpoint(published: Published) -> None:
    published.pipeline.apply(put(SERVICE, slice_of("10.0.0.1", pod="p")))
    published.pipeline.apply(put(pod("p", "10.0.0.1")))
    change = published.changes[-1]
    assert (len(change.put.endpoints), len(change.put.identities), set(change.put.callers)) == (1, 1, {"10.0.0.1"})
    assert (change.put.virtual_hosts, change.put.clusters) == ({}, {})
    published.pipeline.apply(ObjectChanges({}, frozenset({key_of(pod("p", ""))}), ()))
    assert set(published.changes[-1].removed) == {"identities", "callers"}
    assert published.specs.callers == {}


def test_the_addresses_of_a_pod_are_known(published: Published) -> None:
    published.pipeline.apply(put(pod("p", "10.0.0.1")))
    assert published.pipeline.pod_addresses("default", "p") == ("10.0.0.1",)
    assert published.pipeline.pod_addresses("default", "q") == ()


def test_diagnostics_are_those_of_the_present_objects(published: Published) -> None:
    wrong = slice_of("10.0.0.1")
    published.pipeline.apply(put(SERVICE, wrong))
    other_port = decode({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a-1", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"name": "other", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    })  # fmt: skip
    assert published.pipeline.diagnostics() == []
    published.pipeline.apply(put(other_port))
    assert [found.code for found in published.pipeline.diagnostics()] == ["ACMG008"]


def test_a_failing_translation_keeps_the_last_specs(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    published.pipeline.apply(put(SERVICE))
    with monkeypatch.context() as patch:
        patch.setattr(_translator, "add_hosts", None)
        published.pipeline.apply(ObjectChanges({}, frozenset({key_of(SERVICE)}), ()))
        published.pipeline.take_addresses({})
    assert len(published.changes) == 1
    assert "translation failed" in published.pipeline.problems[0].reason
    published.pipeline.apply(put(slice_of("10.0.0.1")))
    assert not published.pipeline.problems
    assert not published.specs.listeners


def test_problems_of_the_source_are_kept(published: Published) -> None:
    problem = SourceProblem(origin="f", reason="bad")
    published.pipeline.apply(put(problems=(problem,)))
    assert published.pipeline.problems == (problem,)


def test_specs_are_those_of_translate(published: Published) -> None:
    published.pipeline.apply(put(SERVICE, slice_of("10.0.0.1")))
    assert published.specs == translate(published.pipeline._store, TranslateOptions()).specs


def alias(target: str) -> Resource:
    spec = {"type": "ExternalName", "externalName": target}
    return decode({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "alias"}, "spec": spec})


def test_names_are_looked_up_and_their_addresses_become_endpoints(published: Published) -> None:
    published.pipeline.apply(put(SERVICE, slice_of("127.0.0.1")))
    assert published.names == []
    published.pipeline.apply(put(alias("x.test")))
    assert published.names == [frozenset({"x.test"})]
    published.pipeline.take_addresses({"x.test": ("127.0.0.8",)})
    assert published.addresses() == {"127.0.0.1", "127.0.0.8"}
    assert list(published.changes[-1].put.endpoints) == ["outbound|80||alias.default.svc.cluster.local"]
    count = len(published.changes)
    published.pipeline.take_addresses({"x.test": ("127.0.0.8",)})
    assert len(published.changes) == count


def test_addresses_of_names_outlive_other_changes_and_leave_with_the_name(published: Published) -> None:
    published.pipeline.apply(put(alias("x.test")))
    published.pipeline.take_addresses({"x.test": ("127.0.0.8",)})
    published.pipeline.apply(put(SERVICE, slice_of("127.0.0.1")))
    published.pipeline.apply(put(slice_of("127.0.0.2")))
    assert published.addresses() == {"127.0.0.2", "127.0.0.8"}
    published.pipeline.apply(ObjectChanges({}, frozenset({key_of(alias(""))}), ()))
    assert published.addresses() == {"127.0.0.2"}
    assert published.names[-1] == frozenset()


def test_names_that_cannot_be_looked_up_are_problems(published: Published) -> None:
    problem = SourceProblem(origin="DNS", name="x.test", reason="no")
    published.pipeline.take_addresses({}, (problem,))
    assert published.pipeline.problems == (problem,)


def test_another_pod_of_a_headless_service_is_another_host(published: Published) -> None:
    headless = decode({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })  # fmt: skip
    published.pipeline.apply(put(headless, pod("p0", "127.0.0.1"), pod("p1", "127.0.0.2"), slice_of("127.0.0.1", pod="p0")))
    published.pipeline.apply(put(slice_of("127.0.0.3", pod="p0")))
    assert published.changes[-1].put.virtual_hosts == {}
    assert "outbound|80||p0.a.default.svc.cluster.local" in published.changes[-1].put.endpoints
    published.pipeline.apply(put(slice_of("127.0.0.2", pod="p1")))
    assert {key.split(".")[0] for key in published.specs.virtual_hosts} == {"a", "p1"}
    assert set(published.specs.clusters) == set(published.specs.endpoints)
