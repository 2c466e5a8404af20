# SPDX-License-Identifier: Apache-2.0
"""Facts about FileSource: what changes when files do, and what stays when they go bad."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
import watchfiles

from discovery import files
from discovery.files import SETTLE_S, FileSource
from discovery.objects import Key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from discovery.objects import ObjectChanges

DEADLINE_S = 20.0
A = Key("Service", "default", "a")
B = Key("Service", "default", "b")


def service(name: str, port: object = 80) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(tmp_path: Path, clock: Clock) -> FileSource:
    return FileSource(tmp_path, clock=clock)


def look(source: FileSource) -> ObjectChanges:
    changes = source.look()
    assert changes is not None
    return changes


def look_settled(source: FileSource, clock: Clock) -> ObjectChanges:
    source.look()
    clock.now += 2 * SETTLE_S
    return look(source)


def test_objects_of_all_files_at_any_depth(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "sub" / "b.yml").write_text(service("b"))
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".hidden.yaml").write_text(service("c"))
    assert look(source).put.keys() == {A, B}
    assert source.look() is None
    assert "objects=2" in repr(source)


def test_only_what_changed_is_told(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "b.yaml").write_text(service("b"))
    look(source)
    (tmp_path / "b.yaml").write_text(service("b", 81))
    assert look(source).put.keys() == {B}


def test_a_file_that_was_read_is_not_read_again(source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    os.utime(path, (1, 1))
    look(source)
    monkeypatch.setattr(files, "parse", None)
    assert source.look() is None


def test_a_change_within_one_tick_of_the_time_stamp_is_seen(source: FileSource, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a", 80))
    look(source)
    before = path.stat()
    path.write_text(service("a", 81))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(source).put.keys() == {A}


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_whether_a_time_stamp_can_be_trusted_is_no_matter_of_the_wall_clock(
    source: FileSource, tmp_path: Path, clock: Clock, off_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + off_s * 1_000_000_000)
    path = tmp_path / "a.yaml"
    path.write_text(service("a", 80))
    look(source)
    before = path.stat()
    path.write_text(service("a", 81))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(source).put.keys() == {A}
    clock.now += 1
    assert source.look() is None
    monkeypatch.setattr(type(path), "read_bytes", None)
    assert source.look() is None, "it is not even read"


def test_a_removed_object_leaves_once_it_was_missing_for_a_while(source: FileSource, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    look(source)
    path.unlink()
    assert source.look() is None
    assert source.is_settling
    clock.now += 2 * SETTLE_S
    assert look(source).removed == {A}
    assert not source.is_settling


def test_a_file_that_is_emptied_before_it_is_written_loses_nothing(source: FileSource, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    look(source)
    path.write_text("")
    assert source.look() is None
    path.write_text(service("a", 81))
    changes = look(source)
    assert changes.put.keys() == {A}
    clock.now += 2 * SETTLE_S
    assert source.look() is None
    assert not source.is_settling


@pytest.mark.parametrize("bad", ["a: [", "a: 1\na: 2"])
def test_an_unreadable_file_keeps_all_it_held(source: FileSource, tmp_path: Path, clock: Clock, bad: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"{service('a')}---\n{service('b')}")
    look(source)
    path.write_text(bad)
    changes = look_settled_or_first(source, clock)
    assert not changes.put
    assert not changes.removed
    assert changes.problems[0].origin == "f.yaml"
    path.write_text(service("a"))
    changes = look_settled(source, clock)
    assert changes.removed == {B}
    assert not changes.problems


def look_settled_or_first(source: FileSource, clock: Clock) -> ObjectChanges:
    changes = look(source)
    clock.now += 2 * SETTLE_S
    assert source.look() is None
    return changes


def test_a_refused_object_keeps_its_last_good_version_and_the_others_change(
    source: FileSource, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"{service('a')}---\n{service('b')}")
    look(source)
    path.write_text(f"{service('a', 'many')}---\n{service('b', 81)}")
    changes = look_settled_or_first(source, clock)
    assert changes.put.keys() == {B}
    assert [problem.name for problem in changes.problems] == ["a"]


def test_a_refused_object_keeps_its_last_good_version_when_it_moved(source: FileSource, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "f.yaml").write_text(service("a"))
    look(source)
    (tmp_path / "f.yaml").write_text("")
    (tmp_path / "g.yaml").write_text(service("a", "many"))
    changes = look_settled_or_first(source, clock)
    assert not changes.put
    assert not changes.removed


def test_something_unnamed_in_a_file_may_be_anything_it_held(source: FileSource, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(f"{service('a')}---\n{service('b')}")
    look(source)
    path.write_text(f"{service('a', 81)}---\nkind: Service\n")
    changes = look_settled_or_first(source, clock)
    assert changes.put.keys() == {A}
    assert not changes.removed


def test_a_refused_object_without_good_version_is_only_reported(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(service("a", "many"))
    changes = look(source)
    assert not changes.put
    assert changes.problems


def test_of_an_object_in_two_files_the_first_by_name_counts(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(service("a", 81))
    (tmp_path / "a.yaml").write_text(service("a", 80))
    changes = look(source)
    assert changes.put[A].spec.ports[0].port == 80  # type: ignore[attr-defined]
    (problem,) = changes.problems
    assert str(problem) == "b.yaml: Service default/a: also in a.yaml, which is used"


def test_a_dangling_link_and_a_huge_file_are_problems(
    source: FileSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.yaml").symlink_to("nowhere")
    (tmp_path / "b.yaml").write_text(service("b"))
    reasons = [problem.reason for problem in look(source).problems]
    assert reasons == ["cannot be read: No such file or directory", "larger than 10 bytes"]


def test_a_directory_that_vanishes_keeps_everything(source: FileSource, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    look(source)
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    changes = look_settled_or_first(source, clock)
    assert not changes.removed
    assert changes.problems[0].origin == str(tmp_path)
    tmp_path.with_name("elsewhere").rename(tmp_path)


def test_a_link_to_a_directory_above_ends(source: FileSource, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "loop").symlink_to(tmp_path)
    changes = look(source)
    assert changes.put.keys() == {A}
    assert not changes.problems


def mount(directory: Path, number: int, text: str) -> None:
    """Change a directory as kubelet changes a mounted ConfigMap."""
    (directory / f"..{number}").mkdir()
    (directory / f"..{number}" / "f.yaml").write_text(text)
    (directory / "..tmp").symlink_to(f"..{number}")
    (directory / "..tmp").rename(directory / "..data")
    if not (directory / "f.yaml").is_symlink():
        (directory / "f.yaml").symlink_to("..data/f.yaml")


async def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    mount(tmp_path, 1, service("a"))
    source = FileSource(tmp_path)
    assert look(source).put.keys() == {A}
    async with aclosing(source.changes()) as changes:
        await trigger_until(changes, lambda: mount(tmp_path, 2, service("b")), removed={A})


async def trigger_until(changes: AsyncIterator[ObjectChanges], trigger: object, *, removed: set[Key]) -> None:
    assert callable(trigger)
    trigger()
    gone: set[Key] = set()
    async with asyncio.timeout(DEADLINE_S):
        while not gone >= removed:
            gone |= (await anext(changes)).removed


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_written_or_replaced_file_is_noticed(tmp_path: Path, *, is_replaced: bool) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a"))
    source = FileSource(tmp_path)
    look(source)
    async with aclosing(source.changes()) as changes:
        target = tmp_path / ".new" if is_replaced else path
        target.write_text(service("a", 81))
        target.rename(path)
        async with asyncio.timeout(DEADLINE_S):
            assert (await anext(changes)).put.keys() == {A}


async def test_a_replaced_directory_is_followed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "a.yaml").write_text(service("a"))
    (tmp_path / "new" / "b.yaml").write_text(service("b"))
    (tmp_path / "current").symlink_to("old")
    source = FileSource(tmp_path / "current")
    look(source)
    async with aclosing(source.changes()) as changes:
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(tmp_path / "current")
        async with asyncio.timeout(DEADLINE_S):
            assert B in (await anext(changes)).put
            assert A in (await anext(changes)).removed
            (tmp_path / "new" / "b.yaml").write_text(service("b", 81))
            assert B in (await anext(changes)).put


async def test_without_notifications_looking_has_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_watch(*_: object, **__: object) -> AsyncIterator[None]:
        await asyncio.to_thread(os.listdir, tmp_path / "nowhere")
        yield

    monkeypatch.setattr(watchfiles, "awatch", no_watch)
    monkeypatch.setattr(files, "LOOK_EVERY_MS", 1)
    source = FileSource(tmp_path)
    (tmp_path / "a.yaml").write_text(service("a"))
    async with aclosing(source.changes()) as changes, asyncio.timeout(DEADLINE_S):
        assert (await anext(changes)).put.keys() == {A}
        for port in (81, 82):
            (tmp_path / "a.yaml").write_text(service("a", port))
            assert (await anext(changes)).put.keys() == {A}
