# SPDX-License-Identifier: Apache-2.0
"""The dashboard and the alerts ask only for series that the code makes."""

from __future__ import annotations

import ast
import json
import re  # noqa: TID251 - finds names in queries of our own
from typing import Any

import pytest
import yaml

from acmgproxy.controller.metrics import Metrics
from acmgproxy.metrics.labels import REQUEST_LABELS
from tests.unit.deploy.kustomize import DEPLOY, ROOT

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "dashboards" / "acmgproxy.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = [one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
RULE_FILE = DEPLOY / "components" / "monitoring" / "prometheus-rule.yaml"
RULES: dict[str, Any] = yaml.safe_load(RULE_FILE.read_text(encoding="utf-8"))
ALERTS = [rule["expr"] for group in RULES["spec"]["groups"] for rule in group["rules"]]
SERIES = sorted({name for query in [*QUERIES, *VARIABLES, *ALERTS] for name in re.findall(r"\b(?:acmg|istio)_[a-z0-9_]+", query)})


def _constants() -> tuple[set[str], set[str]]:
    """Return every text in the code, and what comes before the name in `f"acmg_worker_{name}"`."""
    texts, prefixes = set(), set()
    for file in (ROOT / "acmgproxy").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
                prefixes.add(str(first.value))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts, {prefix for prefix in prefixes if prefix.startswith("acmg_")}


TEXTS, PREFIXES = _constants()
OF_CONTROLLER = {family.name for family in Metrics()._registry.collect()}


def _exists(series: str) -> bool:
    names = {series, *(series.removesuffix(suffix) for suffix in ("_total", "_bucket", "_sum", "_count", "_info"))}
    return not names.isdisjoint(OF_CONTROLLER) or any(
        name in TEXTS or any(name.removeprefix(prefix) in TEXTS for prefix in PREFIXES if name.startswith(prefix))
        for name in names
    )


@pytest.mark.parametrize("series", SERIES)
def test_series_exists(series: str) -> None:
    assert _exists(series)


def test_series_that_nobody_makes_do_not_exist() -> None:
    assert not _exists("acmg_upstream_retries_made_total")
    assert not _exists("acmg_worker_temperature_celsius")
    assert not _exists("acmg_controller_moods")


def test_counters_are_asked_for_their_rate() -> None:
    for query in QUERIES:
        for hit in re.finditer(r"\b(?:acmg|istio)_[a-z0-9_]+_(?:total|bucket)\b", query):
            assert query[: hit.start()].endswith(("rate(", "increase(")), hit.group()


def test_labels_exist() -> None:
    for query in [*QUERIES, *ALERTS]:
        for name, selector in re.findall(r"(istio_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"([a-z_]+)(?:=~|!=|=)", selector))
            assert labels <= set(REQUEST_LABELS), name


def test_panels_are_apart_and_named() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
