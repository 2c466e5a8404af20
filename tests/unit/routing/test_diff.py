# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.diff."""

from __future__ import annotations

from routing.diff import apply, diff
from routing.specs import ClusterSpec, EndpointSpec, Specs, SpecsDiff


def _cluster(name: str) -> ClusterSpec:
    return ClusterSpec(name=name, service="b")


def test_equal_specs_have_no_diff() -> None:
    assert diff(Specs(), Specs(), 1) is None
    one = Specs(clusters={"a": _cluster("a")}, callers={"127.0.0.1": "x"})
    other = Specs(clusters={"a": _cluster("a")}, callers={"127.0.0.1": "x"})
    assert diff(one, other, 7) is None


def test_only_what_differs_is_sent() -> None:
    old = Specs(clusters={"a": _cluster("a"), "b": _cluster("b")}, endpoints={"a": (), "b": ()})
    members = (EndpointSpec(address="127.0.0.1", port=1),)
    new = Specs(clusters={"a": _cluster("a"), "c": _cluster("c")}, endpoints={"a": members, "c": ()})
    change = diff(old, new, 2)
    assert change == SpecsDiff(
        version=2,
        put=Specs(clusters={"c": _cluster("c")}, endpoints={"a": members, "c": ()}),
        removed={"clusters": ("b",), "endpoints": ("b",)},
    )
    assert apply(old, change) == new


def test_a_removal_alone_is_a_diff() -> None:
    change = diff(Specs(callers={"127.0.0.1": "x"}), Specs(), 3)
    assert change == SpecsDiff(version=3, removed={"callers": ("127.0.0.1",)})


def test_applying_changes_neither_side() -> None:
    old = Specs(callers={"127.0.0.1": "x"})
    assert apply(old, SpecsDiff(version=1, put=Specs(callers={"127.0.0.2": "y"}))).callers == {"127.0.0.1": "x", "127.0.0.2": "y"}
    assert old.callers == {"127.0.0.1": "x"}
