# SPDX-License-Identifier: Apache-2.0
"""Facts about reading files: which objects are good, which are refused and why."""

from __future__ import annotations

import pytest

from discovery.documents import parse
from discovery.objects import Key

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: 127.0.0.1, ports: [{port: 80}]}\n"
A = Key("Service", "default", "a")
B = Key("Service", "default", "b")


def service(name: str) -> str:
    return SERVICE % name


def test_several_documents_in_one_file() -> None:
    contents = parse("f.yaml", f"---\n{service('a')}---\n---\n{service('b')}".encode())
    assert contents.objects.keys() == {A, B}
    assert not contents.problems
    assert not contents.is_partly_unreadable


def test_an_empty_file_says_nothing() -> None:
    assert parse("f.yaml", b"") == ({}, frozenset(), False, ())


def test_json_file() -> None:
    assert parse("f.json", b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}').objects.keys() == {A}


@pytest.mark.parametrize("kind", ["List", "ServiceList"])
def test_lists_are_unfolded(kind: str) -> None:
    item = '{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"}}'
    assert parse("f.json", f'{{"apiVersion":"v1","kind":"{kind}","items":[{item}]}}'.encode()).objects.keys() == {A}


def test_an_item_of_a_typed_list_needs_no_kind() -> None:
    text = b'{"apiVersion":"v1","kind":"ServiceList","items":[{"metadata":{"name":"a"}}]}'
    assert parse("f.json", text).objects.keys() == {A}


@pytest.mark.parametrize(
    ("api_version", "kind"), [("apps/v1", "Deployment"), ("serving.knative.dev/v1", "Service"), ("v1", "ConfigMap")]
)
def test_other_kinds_are_passed_over(api_version: str, kind: str) -> None:
    contents = parse("f.yaml", f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n".encode())
    assert contents == ({}, frozenset(), False, ())


def test_a_bad_object_does_not_take_its_neighbours_along() -> None:
    bad = service("b").replace("port: 80", "port: many")
    contents = parse("f.yaml", f"{service('a')}---\n{bad}".encode())
    assert contents.objects.keys() == {A}
    assert contents.refused == {B}
    assert not contents.is_partly_unreadable
    (problem,) = contents.problems
    assert (problem.origin, problem.kind, problem.name) == ("f.yaml (document 2)", "Service", "b")
    assert "port" in problem.field
    assert problem.reason


def test_a_refused_cluster_wide_object_has_no_namespace() -> None:
    contents = parse("f.yaml", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: [1]}\n")
    assert contents.refused == {Key("Namespace", "", "n")}


@pytest.mark.parametrize("text", ["just words", "[1, 2]", "kind: Service", "apiVersion: v1\nkind: Service\nmetadata: {}"])
def test_what_cannot_be_named_makes_the_file_partly_unreadable(text: str) -> None:
    contents = parse("f.yaml", f"{service('a')}---\n{text}\n".encode())
    assert contents.objects.keys() == {A}
    assert contents.is_partly_unreadable
    assert contents.problems


@pytest.mark.parametrize("text", [b"a: [", b"a: 1\na: 2", b"\xff\xfe\x00", b"a: \x01", b"x: &a [*b]", b"d: 2024-99-99"])
def test_bad_yaml_makes_the_whole_file_unreadable(text: bytes) -> None:
    contents = parse("f.yaml", service("a").encode() + b"---\n" + text)
    assert not contents.objects
    assert contents.is_partly_unreadable
    assert contents.problems[0].reason


def test_bad_yaml_is_reported_with_its_place() -> None:
    (problem,) = parse("f.yaml", b"a: 1\na: 2\n").problems
    assert problem.reason == "line 2, column 1: key 'a' is given twice"


def test_merge_keys_and_what_they_override_are_no_duplicates() -> None:
    labels = "metadata: {<<: {name: a}, <<: {labels: &l {x: y}}, annotations: {<<: *l, x: z}}"
    contents = parse("f.yaml", f"apiVersion: v1\nkind: Service\n{labels}\n".encode())
    assert contents.objects[A].meta.annotations == {"x": "z"}


def test_a_list_as_a_key_is_refused() -> None:
    assert parse("f.yaml", b"? [1]\n: 2\n").is_partly_unreadable


@pytest.mark.parametrize("text", [b"{", b""])
def test_bad_json(text: bytes) -> None:
    assert parse("f.json", text).is_partly_unreadable


def test_hopelessly_nested_files_are_refused() -> None:
    assert parse("f.yaml", b"[" * 2_000).is_partly_unreadable


def test_the_first_of_two_equal_objects_is_used() -> None:
    contents = parse("f.yaml", f"{service('a')}---\n{service('a').replace('80', '81')}".encode())
    assert contents.objects[A].spec.ports[0].port == 80  # type: ignore[attr-defined]
    assert "twice" in str(contents.problems[0])
