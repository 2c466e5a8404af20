# SPDX-License-Identifier: Apache-2.0
"""Facts about what is read off the system."""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING

import pytest

from acmgproxy import readings
from acmgproxy.readings import CgroupMemory, Descriptors, Memory, shrink_heap

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024


def group(path: Path, *, limit: str, used: int = 0, cache: int = 0) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.max").write_text(limit + "\n")
    (path / "memory.current").write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 5\n")
    return path


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class TestCgroups:
    def test_the_share_of_the_limit_counts(self, tmp_path: Path) -> None:
        inner = group(tmp_path / "pod", limit=str(100 * MIB), used=50 * MIB)
        memory = CgroupMemory(tmp_path, "0::/pod\n")
        assert memory.pressure() == 0.5
        group(inner, limit=str(200 * MIB), used=50 * MIB)
        assert memory.pressure() == 0.25, "resized in place"

    def test_file_cache_does_not_count_when_it_would_matter(self, tmp_path: Path) -> None:
        group(tmp_path, limit="1000", used=990, cache=400)
        assert CgroupMemory(tmp_path, "0::/").pressure() == 0.59
        (tmp_path / "memory.stat").write_text("anon 1\n")
        assert CgroupMemory(tmp_path, "0::/").pressure() == 0.99

    def test_the_tightest_of_all_levels_counts(self, tmp_path: Path) -> None:
        group(tmp_path / "kubepods", limit="1000", used=900, cache=0)
        group(tmp_path / "kubepods" / "pod", limit="max", used=100)
        group(tmp_path / "kubepods" / "pod" / "one", limit="500", used=100)
        memory = CgroupMemory(tmp_path, "1:name=systemd:/x\n0::/kubepods/pod/one\n")
        assert memory.pressure() == 0.9

    def test_a_group_that_goes_away_or_makes_no_sense_is_no_limit(self, tmp_path: Path) -> None:
        inner = group(tmp_path / "pod", limit="1000", used=900)
        memory = CgroupMemory(tmp_path, "0::/pod")
        (inner / "memory.current").write_text("?")
        assert memory.pressure() == 0.0
        (inner / "memory.current").unlink()
        assert memory.pressure() == 0.0

    @pytest.mark.parametrize("membership", ["", "4:memory:/x\n", "0::/\n"])
    def test_without_the_unified_hierarchy_there_are_none(self, tmp_path: Path, membership: str) -> None:
        memory = CgroupMemory(tmp_path, membership)
        assert not memory.is_limited
        assert memory.pressure() == 0.0
        assert repr(memory) == "CgroupMemory(none)"

    def test_there_are_those_of_this_process(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        group(tmp_path, limit="100", used=10)
        monkeypatch.setattr(readings, "_CGROUPS", tmp_path)
        assert CgroupMemory.of_this_process().pressure() in {0.0, 0.1}  # the machine may have the older hierarchy

        def no_proc(*_: object, **__: object) -> str:
            raise FileNotFoundError

        monkeypatch.setattr("acmgproxy.readings.Path.read_text", no_proc)
        assert not CgroupMemory.of_this_process().is_limited


class TestMemory:
    @pytest.fixture
    def none(self, tmp_path: Path) -> CgroupMemory:
        return CgroupMemory(tmp_path, "")

    def test_without_any_limit_there_is_no_pressure(self, none: CgroupMemory) -> None:
        assert Memory(0, none).pressure() is None

    def test_a_setting_limits_resident_memory(self, none: CgroupMemory) -> None:
        pressure = Memory(10_000 * MIB, none).pressure()
        assert pressure is not None
        assert 0.0005 < pressure < 0.5

    @pytest.mark.parametrize("which", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
    def test_rlimits_count(self, none: CgroupMemory, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
        infinite = resource.RLIM_INFINITY
        monkeypatch.setattr(resource, "getrlimit", lambda asked: (MIB if asked == which else infinite, infinite))
        pressure = Memory(0, none).pressure()
        assert pressure is not None
        assert pressure > 1.0

    @pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
    def test_without_a_descriptor_the_latest_reading_stands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        group(tmp_path, limit="100", used=80)
        memory = Memory(0, CgroupMemory(tmp_path, "0::/"))
        assert memory.pressure() == 0.8

        def none_left(*_: object, **__: object) -> str:
            raise OSError(error, "Too many open files")

        monkeypatch.setattr("acmgproxy.readings.Path.read_text", none_left)
        assert memory.pressure() == 0.8

    def test_a_cgroup_counts_with_them(self, tmp_path: Path) -> None:
        group(tmp_path, limit="100", used=80)
        assert Memory(10_000_000 * MIB, CgroupMemory(tmp_path, "0::/")).pressure() == 0.8
        assert "CgroupMemory" in repr(Memory(5))


class TestDescriptors:
    def test_a_few_are_kept_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Descriptors.limit() == 0
        monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
        assert Descriptors.limit() == 240
        assert repr(Descriptors(lambda: 0.0)) == "Descriptors(limit=240)"
        monkeypatch.setattr(resource, "getrlimit", lambda _: (8, 8))
        assert Descriptors.limit() == 1

    def test_they_are_counted(self) -> None:
        descriptors = Descriptors(lambda: 0.0)
        before = descriptors.used(0)
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
        try:
            if os.stat("/proc/self/fd").st_size:
                assert descriptors.used(0) == before + 5
        finally:
            for fd in opened:
                os.close(fd)

    def test_they_can_be_listed(self) -> None:
        assert readings._descriptors_listed() > 2

    def test_an_old_kernel_is_not_asked_for_a_list_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now, listed = [0.0], [100]
        monkeypatch.setattr(readings, "_descriptors_told", lambda: 0)
        monkeypatch.setattr(readings, "_descriptors_listed", lambda: listed[0])
        monkeypatch.setattr(resource, "getrlimit", lambda _: (1016, 1016))
        descriptors = Descriptors(lambda: now[0])
        assert descriptors.used(10) == 100
        listed[0] = 130
        assert descriptors.used(25) == 130, "each new client may have brought two"
        listed[0] = 110
        assert descriptors.used(5) == 100, "fewer clients may have freed none"
        now[0] = 10.0
        assert descriptors.used(5) == 110
        assert descriptors.used(500) == 110, "near the limit it is worth looking"

        def none_left() -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(readings, "_descriptors_listed", none_left)
        assert descriptors.used(1000) == 1110
        now[0] = 20.0
        assert descriptors.used(505) == 1000, "all"


def test_free_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_heap()
    monkeypatch.setattr("acmgproxy.readings.ctypes.CDLL", lambda _: object())
    shrink_heap()  # another C library
