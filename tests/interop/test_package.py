# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what the gateway needs to run and to be installed, and nothing else; the source archive holds all of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from acmgproxy.ctl.manifests import parse_values, render, to_yaml

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
    assert sample == tmp_path / "acmgproxy" / "_deploy" / "samples" / "helloworld-laptop"
    for file in (ROOT / "deploy" / "samples" / "helloworld-laptop").iterdir():
        assert (sample / file.name).read_bytes() == file.read_bytes()


def test_installed_wheel_renders_the_manifests(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = """
import acmgproxy, sys
from acmgproxy.ctl.manifests import directory, parse_values, render, to_yaml
assert acmgproxy.__file__.startswith(sys.argv[1]), acmgproxy.__file__
assert str(directory()).startswith(sys.argv[1]), directory()
print(to_yaml(render(parse_values(["monitoring.enabled=true", "tag=1"]))))
"""
    rendered = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    expected = to_yaml(render(parse_values(["monitoring.enabled=true", "tag=1"])))
    assert rendered.stdout.strip() == expected.strip()


def test_wheel_has_every_manifest(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("acmgproxy/_deploy/")}
    assert packed == {f"acmgproxy/_deploy/{name}": content for name, content in _manifests().items()}


def test_source_archive_has_every_manifest(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)], cwd=ROOT, check=True)
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"deploy/{name}" for name in _manifests()} <= names


def test_image_builds_the_same_wheel_from_what_is_copied_into_it(wheel: Path, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            for name in line.removeprefix("COPY ").split()[:-1]:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=source, check=True)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(built) as other:
        assert {name for name in other.namelist() if "__pycache__" not in name} == set(one.namelist())


def _manifests() -> dict[str, bytes]:
    directory = ROOT / "deploy"
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in directory.rglob("*") if file.is_file()}
