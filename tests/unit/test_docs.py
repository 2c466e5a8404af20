# SPDX-License-Identifier: Apache-2.0
"""The documents say what is so: links lead somewhere, targets and options exist."""

from __future__ import annotations

import inspect
import re  # noqa: TID251 - reads our own documents
from pathlib import Path

import pytest

from acmgproxy import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9.-]+):.* ## ", MAKEFILE, re.MULTILINE))


def _heading_anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", document.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in _heading_anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_make_targets_exist(document: Path) -> None:
    mentioned = set(
        re.findall(r"(?:^\$ |`)make ([a-z0-9-]+(?:\.[a-z0-9]+)*)", document.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert mentioned <= TARGETS


def test_every_target_is_phony_and_described() -> None:
    phony = set(re.findall(r"^\.PHONY: ([a-z0-9.-]+)$", MAKEFILE, re.MULTILINE))
    assert phony == TARGETS


def test_every_option_of_run_is_described() -> None:
    described = set(re.findall(r"^\| `--([a-z-]+)", (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert described == {name.replace("_", "-") for name in inspect.signature(cli.run).parameters}


def test_requirements_name_no_place() -> None:
    for file in (ROOT / "requirements").glob("*.txt"):
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        assert lines
        assert all(line.startswith("    --hash=sha256:") or "==" in line for line in lines), file.name
