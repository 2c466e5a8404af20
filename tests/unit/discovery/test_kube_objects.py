# SPDX-License-Identifier: Apache-2.0
"""Objects of a kind, snapshots of them, and what changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from discovery.kube.objects import WatchedObjects
from discovery.kube.wire import Head
from routing.resources import Problem, ResourceError


def decode(raw: bytes) -> str:
    if raw == b"bad":
        raise ResourceError("Service", "n", "a", (Problem("spec", "is bad"), Problem("spec.x", "is worse")))
    return raw.decode()


def head(name: str) -> Head:
    return Head("n", name, "1")


def objects(**found: str) -> WatchedObjects[str]:
    result = WatchedObjects("Service", decode)
    snapshot(result, **found)
    result.taken()
    return result


def snapshot(found: WatchedObjects[str], **objects: str) -> None:
    found.begin()
    for name, text in objects.items():
        found.add(head(name), text.encode())
    found.swap()


def test_a_snapshot_is_told_as_the_difference() -> None:
    found = objects(a="1", b="1", c="1")
    snapshot(found, a="1", b="2", d="1")
    assert found.taken() == ({("n", "b"): "2", ("n", "d"): "1"}, {("n", "c")}, ())
    assert found.taken() is None
    assert len(found) == 3


def test_a_snapshot_that_was_not_finished_changes_nothing() -> None:
    found = objects(a="1")
    found.begin()
    found.add(head("b"), b"1")
    found.begin()
    found.add(head("a"), b"1")
    found.swap()
    assert found.taken() is None


def test_an_object_dropped_from_a_snapshot_is_not_in_it() -> None:
    found = objects(a="1")
    found.begin()
    found.add(head("a"), b"1")
    found.add(head("b"), b"bad")
    found.drop(head("a"))
    found.drop(head("b"))
    found.swap()
    assert found.taken() == ({}, {("n", "a")}, ())


def test_an_object_that_comes_again_as_it_was_is_no_change() -> None:
    found = objects(a="1")
    found.put(head("a"), b"1")
    found.remove(head("b"))
    assert found.taken() is None


def test_what_was_put_and_removed_since_is_removed_and_the_other_way_round() -> None:
    found = objects(a="1")
    found.put(head("b"), b"1")
    found.remove(head("b"))
    found.remove(head("a"))
    found.put(head("a"), b"2")
    assert found.taken() == ({("n", "a"): "2"}, {("n", "b")}, ())


def test_a_bad_object_keeps_its_last_good_version_over_snapshots_until_it_is_good_or_gone() -> None:
    found = objects(a="1")
    found.put(head("a"), b"bad")
    change = found.taken()
    assert change is not None
    assert (change.put, change.removed) == ({}, set())
    assert [str(problem) for problem in change.problems] == [
        "kubernetes: Service n/a: spec: is bad",
        "kubernetes: Service n/a: spec.x: is worse",
    ]
    found.put(head("a"), b"bad")
    assert found.taken() is None
    snapshot(found, a="bad")
    assert found.taken() is None
    assert len(found) == 1
    found.put(head("a"), b"1")
    assert found.taken() == ({}, set(), ())
    found.put(head("a"), b"bad")
    found.remove(head("a"))
    assert found.taken() == ({}, {("n", "a")}, ())


def test_an_object_that_was_never_good_is_reported_only() -> None:
    found = WatchedObjects("Service", decode)
    snapshot(found, a="bad")
    change = found.taken()
    assert change is not None
    assert (change.put, change.removed, len(change.problems)) == ({}, set(), 2)


def test_a_later_version_in_a_snapshot_counts() -> None:
    found = WatchedObjects("Service", decode)
    found.begin()
    found.add(head("a"), b"bad")
    found.add(head("a"), b"1")
    found.add(head("b"), b"1")
    found.add(head("b"), b"bad")
    found.swap()
    change = found.taken()
    assert change is not None
    assert change.put == {("n", "a"): "1"}
    assert {problem.name for problem in change.problems} == {"b"}


def test_an_object_without_a_name_is_reported() -> None:
    found = WatchedObjects("Service", decode)
    found.put(Head("n", "", ""), b"1")
    change = found.taken()
    assert change is not None
    assert str(change.problems[0]) == "kubernetes: Service n: metadata.name: there is no name"


def test_what_concerns_no_object_is_reported_until_the_next_snapshot() -> None:
    found = objects(a="1")
    found.report("too long")
    found.report("too long")
    assert found.taken() == ({}, set(), (found._problems["", ""][0],))
    assert found.taken() is None
    snapshot(found, a="1")
    assert found.taken() == ({}, set(), ())


_NAMES = st.sampled_from("abc")
_TEXTS = st.sampled_from(["1", "2", "bad"])


@given(st.lists(st.one_of(st.tuples(_NAMES, _TEXTS), _NAMES, st.dictionaries(_NAMES, _TEXTS), st.none())))
def test_who_follows_the_changes_has_the_objects(steps: list[Any]) -> None:
    found = WatchedObjects("Service", decode)
    told: dict[tuple[str, str], str] = {}
    model: dict[tuple[str, str], str] = {}
    for step in [*steps, None]:
        if isinstance(step, tuple):
            name, text = step
            found.put(head(name), text.encode())
            model |= {("n", name): text} if text != "bad" else {}
        elif isinstance(step, str):
            found.remove(head(step))
            model.pop(("n", step), None)
        elif isinstance(step, dict):
            snapshot(found, **step)
            good = {("n", name): text for name, text in step.items() if text != "bad"}
            model = good | {key: text for key, text in model.items() if step.get(key[1]) == "bad"}
        elif (change := found.taken()) is not None:
            assert not change.put.keys() & change.removed
            told |= change.put
            told = {key: text for key, text in told.items() if key not in change.removed}
    assert told == model
    assert len(found) == len(model)
