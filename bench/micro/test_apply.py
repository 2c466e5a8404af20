# SPDX-License-Identifier: Apache-2.0
"""What it costs a worker to take in a change of configuration, in a table of 1,000 routes: it answers nobody meanwhile."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
import yaml

from bench.micro import kit
from bench.peers.gateway import manifest, table_manifest
from routing.diff import diff
from routing.resources import EndpointSlice, VirtualService, decode
from routing.specs import Specs
from routing.store import Store
from routing.table import RouteTable
from routing.translate import translate

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from routing.resources import Resource
    from routing.specs import SpecsDiff

_HOSTS = 1_000


def _objects(weight: int = 90, port: int = 5000) -> list[Resource]:
    upstreams = ((kit.UPSTREAMS[0][0], port), (kit.UPSTREAMS[1][0], port))
    text = manifest(kit.ADDRESS, upstreams) + table_manifest(range(1), weight=weight)
    return [decode(document) for document in yaml.load_all(text, yaml.CSafeLoader)]


@pytest.fixture(scope="module")
def store() -> Store:
    """The objects of the comparison and 1,000 more hosts."""
    store = Store()
    for resource in _objects():
        store.put(resource)
    for document in yaml.load_all(table_manifest(range(1, _HOSTS)), yaml.CSafeLoader):
        store.put(decode(document))
    return store


def _alternating(
    store: Store, kind: type[Resource], first: list[Resource], second: list[Resource]
) -> tuple[Specs, list[SpecsDiff]]:
    """Return the specs with the first objects of a kind, and the changes to the second and back."""
    specs = []
    for objects in (first, second):
        for resource in objects:
            if type(resource) is kind:
                store.put(resource)
        specs.append(translate(store).specs)
    there, back = diff(specs[0], specs[1], 2), diff(specs[1], specs[0], 3)
    assert there is not None
    assert back is not None
    return specs[0], [there, back]


@pytest.mark.parametrize(("kind", "weight", "port"), [(VirtualService, 80, 5000), (EndpointSlice, 90, 5001)])
def test_apply(benchmark: BenchmarkFixture, store: Store, kind: type[Resource], weight: int, port: int) -> None:
    """A route whose weights move; endpoints that move to another port."""
    specs, changes = _alternating(store, kind, _objects(), _objects(weight, port))
    whole = diff(Specs(), specs, 1)
    assert whole is not None
    table = RouteTable(workers=1)
    table.apply(whole)
    turns = count()
    benchmark(lambda: table.apply(changes[next(turns) % 2]))


def test_apply_everything(benchmark: BenchmarkFixture, store: Store) -> None:
    """The first configuration of a worker."""
    whole = diff(Specs(), translate(store).specs, 1)
    assert whole is not None
    benchmark.pedantic(lambda: RouteTable(workers=1).apply(whole), rounds=5)  # type: ignore[no-untyped-call]
