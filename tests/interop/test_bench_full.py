# SPDX-License-Identifier: Apache-2.0
"""The full comparison, the document made from it, the comparison of two revisions and the memory figures run to their end.

Runs are as short as they can be; nothing is said about any time that they measure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.compare import middle
from bench.full import TABLES
from bench.suite.plan import SHORT

_PROJECT = Path(__file__).resolve().parents[2]
_ALL = {"direct", "acmgproxy", "nginx", "haproxy", "envoy", "envoy-two-hops"}


def _run(*arguments: str, project: Path = _PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_run_of_everything_makes_a_document(tmp_path: Path) -> None:
    output = tmp_path / "full.json"
    done = _run("full", "--short", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text())
    assert list(result["tables"]) == list(TABLES)
    there = _ALL - set(result["missing"])  # Envoy comes with the benchmark requirements only
    assert {"direct", "acmgproxy", "nginx", "haproxy"} <= there
    _check_tables(result["tables"], there)
    assert "weight: 90" in result["configurations"]["acmgproxy"]["helloworld.yaml"]
    assert set(result["configurations"]) == there
    assert {"machine", "versions", "commit", "date", "plan"} <= set(result)

    done = _run("document", "--results", str(output), "--output", str(tmp_path / "docs"))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "docs" / "performance.md").read_text()
    assert "## What it is held to" in text
    assert "Not measured in this run." not in text or "envoy" in result["missing"]


def _check_tables(tables: dict[str, list[dict[str, Any]]], there: set[str]) -> None:
    for rows in tables.values():
        assert all(len(values) for row in rows for values in row["values"].values())
    assert {row["peer"] for row in tables["connections"]} == there
    assert {(row["peer"], row["rate"]) for row in tables["rates"]} == {
        (peer, rate) for peer in there - {"haproxy"} for rate in SHORT.rates
    }
    assert {(row["way"], row["bytes"]) for row in tables["bodies"]} == {
        (way, size) for way in ("down", "up") for size in SHORT.bodies
    }
    assert {row["hosts"] for row in tables["table_hosts"] if row["peer"] == "acmgproxy"} == set(SHORT.table_hosts)
    assert {row["workers"] for row in tables["workers"] if row["peer"] == "acmgproxy"} == set(SHORT.workers)
    assert {row["client"] for row in tables["client"]} == {"bench.openloop", "h2load"}
    quiet, churn = tables["churn"]
    assert quiet["values"]["versions"] == [0]
    assert churn["values"]["versions"][0] > 0  # the changes were changes
    for row in tables["connections"]:
        assert ("cpu_us" in row["values"]) is (row["peer"] != "direct")
        assert all(value > 0 for value in row["values"]["p50_us"])
    assert all(row["values"]["worker_rss_mb"][0] <= row["values"]["rss_mb"][0] for row in tables["at_rest"])


@pytest.mark.slow
def test_a_run_of_one_table_keeps_the_others(tmp_path: Path) -> None:
    output = tmp_path / "full.json"
    output.write_text(json.dumps({"tables": {"churn": [{"kept": True}]}, "measured": {"churn": "long ago"}}))
    done = _run("full", "--short", "--tables", "at_rest", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text())
    tables = result["tables"]
    assert result["measured"]["churn"] == "long ago" != result["measured"]["at_rest"]
    assert list(tables) == ["at_rest", "churn"]
    assert tables["churn"] == [{"kept": True}]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of what is in the working tree."""
    root = tmp_path / "repository"
    for name in ("acmgproxy", "routing", "discovery", "bench", "deploy"):
        shutil.copytree(_PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
    for command in (("init", "--quiet"), ("add", "--all", "--force"), (*identity, "commit", "--quiet", "--message", "All")):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=60)
    return root


@pytest.mark.slow
def test_a_revision_is_compared_with_the_working_tree(repository: Path) -> None:
    """Both sides run their own files: the working tree's are broken in the end, and that side does not start any more."""
    done = _run("compare", "HEAD", "--rounds", "1", "--seconds", "0.1", project=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the working tree / HEAD" in done.stdout
    assert done.stdout.count(" connections, ") == 7
    (repository / "acmgproxy" / "__main__.py").write_text("raise SystemExit('broken here')")
    done = _run("compare", "HEAD", "--rounds", "1", "--seconds", "0.1", project=repository)
    assert done.returncode == 1
    assert "broken here" in done.stdout


def test_an_unknown_revision_is_named(repository: Path) -> None:
    done = _run("compare", "no-such-revision", "--rounds", "1", project=repository)
    assert done.returncode == 1
    assert "no-such-revision cannot be checked out" in done.stdout


def test_the_range_of_ratios_is_that_of_the_middle_half() -> None:
    assert middle([1.0, 5.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert middle([1.5]) == (1.5, 1.5, 1.5)


@pytest.mark.slow
def test_every_micro_benchmark_still_runs() -> None:
    """Each step once, without timing; following a big cluster is tested elsewhere and takes long."""
    argv = [
        "-m",
        "pytest",
        "bench/micro",
        "-q",
        "-p",
        "no:cacheprovider",
        "--benchmark-disable",
        "--ignore=bench/micro/test_translate.py",
    ]
    done = subprocess.run([sys.executable, *argv], cwd=_PROJECT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
