# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cases.model import Case, CaseError, Mistake, load

if TYPE_CHECKING:
    from pathlib import Path


def _load(tmp_path: Path, text: str) -> list[Case | Mistake]:
    path = tmp_path / "cases.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {id: x, requests: [], expect: {}, colour: red}", "unknown field `colour`"),
        ("- {id: x, setup: {broken: [b]}, requests: [], expect: {}}", "unknown field `broken`"),
        ("- {id: x, setup: {upstream_response: {b: {code: 1}}}, requests: [], expect: {}}", "unknown field `code`"),
        ("- {id: x, requests: [{host: b, verb: GET}], expect: {}}", "unknown field `verb`"),
        ("- {id: x, requests: [{host: b}], expect: {state: 200}}", "unknown field `state`"),
        ("- {id: x, requests: [{host: b}], expect: {each: [{state: 200}]}}", "unknown field `state`"),
        ("- {id: x, requests: [{host: b}], expect: {on_503: {state: 1}}}", "unknown field `state`"),
        ("- {id: x, requests: [{host: b}], expect: {per_upstream: {b: {upstream: {zone: z}}}}}", "unknown field `zone`"),
        ("- {id: x, level: vague, requests: [], expect: {}}", "vague"),
        ("- {id: x, expect: {}}", "requests"),
        ("- {id: x, requests: []}", "expect"),
        ("- {id: x, requests: [{host: b}], expect: {each: []}}", "1 requests, but `each` has 0 entries"),
        ("- {id: x, requests: [{}], expect: {}}", "needs a host"),
        ("- {id: x, requests: [{host: b, sequential: true, concurrency: 2}], expect: {}}", "sequential or concurrent"),
        ("- {id: x, requests: [{host: b}], expect: {each: [{validation: error}]}}", "belongs to the whole case"),
        ("- {id: hr-x, requests: [], expect: {}, colour: red}", "unknown field `colour`"),
    ],
)
def test_what_is_not_known_is_a_mistake(tmp_path: Path, text: str, reason: str) -> None:
    (case,) = _load(tmp_path, text)
    assert isinstance(case, Mistake)
    assert reason in case.reason


def test_an_id_may_be_used_once(tmp_path: Path) -> None:
    first, second = _load(tmp_path, "- {id: x, requests: [], expect: {}}\n- {id: x, requests: [], expect: {}}")
    assert isinstance(first, Case)
    assert second == Mistake("x", "this id is used twice")


@pytest.mark.parametrize("text", ["{a: 1}", "[1]", "- [", "b: ["])
def test_a_file_must_be_a_list_of_cases(tmp_path: Path, text: str) -> None:
    with pytest.raises(CaseError):
        _load(tmp_path, text)
    with pytest.raises(CaseError):
        load(tmp_path / "nowhere.yaml")


def test_statuses_are_gathered_wherever_they_are(tmp_path: Path) -> None:
    (case,) = _load(
        tmp_path,
        "- {id: x, requests: [{host: b}], expect: {on_500: {flag: A}, each: [{on_503: {flag: B, on_404: {flag: C}}}]}}",
    )
    assert isinstance(case, Case)
    assert case.expect.on_status[500].flag == "A"
    (each,) = case.expected()
    assert each.on_status[503].flag == "B"
    assert each.on_status[503].on_status[404].flag == "C"


def test_time_stamps_stay_text(tmp_path: Path) -> None:
    (case,) = _load(tmp_path, "- {id: x, resources: [{at: 2024-01-02T03:04:05Z, on: 2024-01-02}], requests: [], expect: {}}")
    assert isinstance(case, Case)
    assert case.resources == [{"at": "2024-01-02T03:04:05Z", "True": "2024-01-02"}]


def test_what_holds_for_all_requests_holds_for_each(tmp_path: Path) -> None:
    (case,) = _load(tmp_path, "- {id: x, requests: [{host: a}, {host: b}], expect: {status: 200}}")
    assert isinstance(case, Case)
    assert [expect.status for expect in case.expected()] == [200, 200]


@pytest.mark.parametrize(
    ("name", "expect", "later"),
    [("hr-x", "{}", True), ("x", "{conditions: []}", True), ("x", "{each: [{conditions: []}]}", True), ("x", "{}", False)],
)
def test_routes_and_conditions_are_for_later(tmp_path: Path, name: str, expect: str, later: bool) -> None:
    (case,) = _load(tmp_path, f"- {{id: {name}, requests: [{{host: b}}], expect: {expect}}}")
    assert isinstance(case, Case)
    assert case.is_for_later is later
