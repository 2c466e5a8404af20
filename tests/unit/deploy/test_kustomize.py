# SPDX-License-Identifier: Apache-2.0
"""Kustomize and `render` make the same of the manifests, and no manifest is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from acmgproxy.ctl.manifests import parse_values, render, to_yaml
from tests.unit.deploy.kustomize import DEPLOY, build, by_name, documents

if TYPE_CHECKING:
    from pathlib import Path

KUSTOMIZATIONS = sorted(file.parent for file in DEPLOY.rglob("kustomization.yaml"))


@pytest.mark.parametrize("profile", ["acmg", "demo"])
def test_defaults_of_a_profile_are_its_overlay(profile: str) -> None:
    built = build(DEPLOY / "overlays" / profile)
    assert by_name(render(parse_values([f"profile={profile}"]))) == by_name(built)


def test_monitoring_is_the_component() -> None:
    rendered = render(parse_values(["monitoring.enabled=true"]))
    assert by_name(rendered) == by_name(build(DEPLOY / "overlays" / "acmg") + build(DEPLOY / "components" / "monitoring"))


@pytest.mark.parametrize("directory", KUSTOMIZATIONS, ids=lambda directory: str(directory.relative_to(DEPLOY)))
def test_every_file_of_a_kustomization_is_used(directory: Path) -> None:
    (kustomization,) = documents(directory / "kustomization.yaml")
    used = {
        *kustomization.get("resources", ()),
        *(patch["path"] for patch in kustomization.get("patches", ())),
        *(name for generator in kustomization.get("configMapGenerator", ()) for name in generator["files"]),
    }
    assert {file.name for file in directory.iterdir() if file.is_file()} - {"kustomization.yaml"} == {
        name for name in used if (directory / name).is_file()
    }


@pytest.mark.parametrize("directory", KUSTOMIZATIONS, ids=lambda directory: str(directory.relative_to(DEPLOY)))
def test_namespaces_are_written_out(directory: Path) -> None:
    cluster_wide = {"Namespace", "CustomResourceDefinition", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}
    for obj in build(directory):
        assert obj["metadata"].get("namespace") == (None if obj["kind"] in cluster_wide else "acmg-system")


def test_yaml_reads_back_as_it_was() -> None:
    objects = render(parse_values(["monitoring.enabled=true"]))
    assert list(yaml.load_all(to_yaml(objects), Loader=yaml.CSafeLoader)) == objects


@pytest.mark.parametrize("text", ["1e3", "0o17", "y", "N", "1_000", "-.5", "+1", "true", "null", "12:30:00", "0x1F"])
def test_yaml_quotes_what_its_versions_read_differently(text: str) -> None:
    written = to_yaml([{"value": text}]).removeprefix("value: ").strip()
    assert written in {f'"{text}"', f"'{text}'"}


def test_yaml_has_no_aliases() -> None:
    labels = {"a": "b"}
    assert "&" not in to_yaml([{"one": labels, "two": labels}])
