# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from routing.table.hosts import HostIndex
from routing.table.virtual_host import CompiledVirtualHost
from tests.unit.routing.table_kit import virtual_host


def vhost(name: str, *domains: str, key: str = "", **options: Any) -> CompiledVirtualHost:
    compiled = CompiledVirtualHost(key or f"{name}:80")
    compiled.update(virtual_host(name=name, domains=domains or (name,), **options), None)
    return compiled


def index_of(*hosts: CompiledVirtualHost) -> HostIndex:
    index = HostIndex()
    for host in hosts:
        index.add(host)
    return index


def test_exact_beats_wildcard_and_longer_beats_shorter() -> None:
    exact, long, short, every = vhost("a.x.io"), vhost("*.x.io"), vhost("*.io"), vhost("*")
    index = index_of(every, short, long, exact)
    assert index.lookup(b"a.x.io") is exact
    assert index.lookup(b"b.x.io") is long
    assert index.lookup(b"c.b.x.io") is long
    assert index.lookup(b"x.io") is short
    assert index.lookup(b"io") is every
    assert index.lookup(b"") is None


@pytest.mark.parametrize("host", [b".x.io", b"x.io", b"ax.io", b""])
def test_a_wildcard_needs_something_to_stand_for(host: bytes) -> None:
    assert index_of(vhost("*.x.io")).lookup(host) is None


def test_names_that_cannot_exist_match_no_wildcard() -> None:
    index = index_of(vhost("*.io"))
    assert index.lookup(b"a" * 250 + b".io") is not None
    assert index.lookup(b"a" * 251 + b".io") is None


def test_domains_are_compared_in_lower_case() -> None:
    assert index_of(vhost("A.X.io")).lookup(b"a.x.io") is not None


def test_a_short_name_belongs_to_a_namespace() -> None:
    one, two = vhost("b.one", short_name="b", namespace="one"), vhost("b.two", short_name="b", namespace="two")
    index = index_of(one, two)
    assert index.lookup_short(b"b") == {"one": one, "two": two}
    assert index.lookup_short(b"c") == {}
    assert index.lookup(b"b") is None
    index.remove(one)
    assert index.lookup_short(b"b") == {"two": two}
    index.remove(two)
    assert index.lookup_short(b"b") == {}
    assert not index


def test_an_index_knows_whether_it_is_empty() -> None:
    index = index_of()
    assert not index
    for host in (vhost("a"), vhost("*.a"), vhost("a", "*", short_name="a")):
        index.add(host)
        assert index
        index.remove(host)
        assert not index


def test_a_contested_domain_goes_to_the_host_it_names() -> None:
    first, second, third = vhost("a.io", "a.io", "b.io"), vhost("b.io"), vhost("c.io", "b.io")
    for order in ((first, second, third), (third, first, second), (second, third, first)):
        index = index_of(*order)
        assert index.lookup(b"b.io") is second
        index.remove(second)
        assert index.lookup(b"b.io") is first  # then to the smallest key
        index.remove(third)
        assert index.lookup(b"b.io") is first
        index.remove(first)
        assert not index


def test_a_contested_wildcard() -> None:
    first, second = vhost("one", "*.io", key="1"), vhost("*.io", key="2")
    index = index_of(first, second)
    assert index.lookup(b"a.io") is second
    index.remove(second)
    assert index.lookup(b"a.io") is first


def test_a_repeated_domain_counts_once() -> None:
    host = vhost("a.io", "a.io", "A.io")
    index = index_of(host)
    index.remove(host)
    assert not index
