# SPDX-License-Identifier: Apache-2.0
"""The image: how it is built, and that nothing it needs is left out."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.unit.deploy.kustomize import ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory for PATH with what make needs, and no container engine."""
    for name in ("bash", "git"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    return tmp_path


def _make(tools: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    assert make is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        [make, "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


def _add_engine(tools: Path, name: str) -> None:
    engine = tools / name
    engine.write_text(f'#!/bin/bash\necho {name} "$@"\n')
    engine.chmod(0o755)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_image_is_named_by_hub_and_tag(tools: Path, engine: str) -> None:
    _add_engine(tools, engine)
    made = _make(tools, "docker.acmg", "HUB=registry.example.com/mesh", "TAG=1.2.3", "ARGS=--pull")
    assert made.returncode == 0, made.stderr
    command = made.stdout.splitlines()[0].split()
    assert command[:4] == [engine, "build", "--tag", "registry.example.com/mesh/acmgproxy:1.2.3"]
    assert "VERSION=1.2.3" in command
    assert command[-2:] == ["--pull", "."]


@pytest.mark.parametrize(("given", "missing"), [("TAG=1", "HUB"), ("HUB=registry.example.com", "TAG")])
def test_missing_hub_or_tag_is_an_error_that_says_what_to_give(tools: Path, given: str, missing: str) -> None:
    _add_engine(tools, "docker")
    made = _make(tools, "docker.acmg", given)
    assert made.returncode != 0
    assert made.stdout == ""
    assert f"make: {missing} is missing" in made.stderr
    assert f"for example {missing}=" in made.stderr


def test_missing_engine_is_an_error_that_says_so(tools: Path) -> None:
    made = _make(tools, "docker.acmg", "HUB=registry.example.com", "TAG=1")
    assert made.returncode != 0
    assert "neither docker nor podman found" in made.stderr
    assert "made " not in made.stdout


def test_everything_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    sources = {
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.removeprefix("COPY ").split()[:-1]
    }
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


def test_final_image_starts_from_the_base_and_takes_only_the_environment() -> None:
    final = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert final.startswith("\nFROM ${PYTHON_IMAGE}\n")
    assert [line for line in final.splitlines() if line.startswith(("COPY", "ADD"))] == [
        "COPY --from=builder /opt/acmgproxy /opt/acmgproxy"
    ]
    assert "\nUSER 65532:65532\n" in final
    assert "\nHEALTHCHECK " in final
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in final


def test_what_is_installed_is_pinned_by_hash() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "pip" in line and " install " in line and "--requirement" in line]
    assert len(installs) == 2
    assert all("--require-hashes --only-binary :all:" in line for line in installs)
