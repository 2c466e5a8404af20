# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what the gateway needs to run, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], cwd=ROOT, check=True)
    (file,) = directory.glob("*.whl")
    return file


def test_wheel_has_every_module_and_no_test_or_benchmark(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        file.relative_to(ROOT).as_posix()
        for package in ("acmgproxy", "discovery", "routing")
        for file in (ROOT / package).rglob("*.py")
    }
    assert sources <= names
    assert {name.partition("/")[0] for name in names} == {
        "acmgproxy",
        "discovery",
        "routing",
        wheel.name.rsplit("-", 3)[0] + ".dist-info",
    }


def test_installed_wheel_brings_the_sample(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = "from acmgproxy.demo.sample import sample_directory; print(sample_directory())"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    sample = Path(found.stdout.strip())
    assert sample == tmp_path / "acmgproxy" / "_deploy" / "samples" / "helloworld"
    for file in (ROOT / "deploy" / "samples" / "helloworld").iterdir():
        assert (sample / file.name).read_bytes() == file.read_bytes()
