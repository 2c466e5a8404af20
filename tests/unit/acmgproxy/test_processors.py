# SPDX-License-Identifier: Apache-2.0
"""Facts about the number of processors that may be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from acmgproxy.processors import usable_processors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def usable(tmp_path: Path, membership: str, **limits: str) -> int:
    """Ask with the given /proc/self/cgroup, and cpu.max by group (`root`, `pod`, `pod/container`)."""
    root = tmp_path / "cgroup"
    for group, text in limits.items():
        path = root / {"root": "", "pod": "pod", "container": "pod/container"}[group]
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.max").write_text(text, encoding="ascii")
    told = tmp_path / "membership"
    told.write_text(membership, encoding="ascii")
    return usable_processors(root, told)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("nonsense", 8)],
)
def test_a_limit_counts_if_it_is_lower_than_what_is_allowed(tmp_path: Path, limit: str, expected: int) -> None:
    assert usable(tmp_path, "0::/pod/container\n", container=f"{limit}\n") == expected


def test_the_tightest_of_all_groups_around_counts(tmp_path: Path) -> None:
    assert usable(tmp_path, "0::/pod/container\n", container="400000 100000", pod="300000 100000", root="max 100000") == 3
    assert usable(tmp_path, "1:cpu:/other\n0::/\n", root="500000 100000") == 5


def test_without_cgroups_all_that_are_allowed_count(tmp_path: Path) -> None:
    assert usable(tmp_path, "1:cpu:/pod\n", pod="100000 100000") == 8
    assert usable_processors(tmp_path, tmp_path / "nothing") == 8
