# SPDX-License-Identifier: Apache-2.0
"""FileSource: the objects in the YAML and JSON files of a directory.

Level-triggered: a notification only says "look again", and looking means comparing the whole directory with what was read before.
So lost, doubled and reordered notifications do no harm, and neither do file systems without any: the directory is looked at
every two seconds anyway. Files are read again when they may have changed, links are followed (a mounted ConfigMap replaces
everything at once by swapping its `..data` link), names that begin with a dot are passed over.

What is unreadable keeps what it was: a file that cannot be read or parsed keeps all its objects, a refused object keeps its last
good version, even if it moved to another file meanwhile. An object that is simply no longer there leaves, but not before it has
been missing for `SETTLE_S`: most programs write a file by emptying it first, or by moving it away, and for a moment nothing is
there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import watchfiles

from discovery.documents import SUFFIXES, Contents, parse
from discovery.objects import Key, ObjectChanges, SourceProblem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from routing.resources import Resource

__all__ = ["FileSource"]

SETTLE_S = 0.05
"""How long an object must be missing before it is taken as removed."""

QUIET_MS = 15
"""A burst of notifications is over after this much quiet (watchfiles: 50). Also its polling step, so noticing takes 15-30 ms."""

BURST_MS = 100
"""A burst that does not end is looked at after this long (watchfiles: 1600)."""

LOOK_EVERY_MS = 2_000
MAX_FILE_BYTES = 64 * 1024 * 1024

_RECENT_S = 0.1
"""A file whose signature is this new may change again without its time stamp showing it (ticks are up to 10 ms)."""


class _Signature(NamedTuple):
    """Equal as long as a file was not written or replaced."""

    modified_ns: int
    size: int
    inode: int
    device: int


class _File(NamedTuple):
    """A file as last read.

    Args:
        signature: None if it could not be read.
        seen_at: monotonic seconds when the signature was seen first.
        is_recent: whether the signature cannot be trusted yet.
        digest: of its bytes.
        contents: what it says.
        carried: last good versions of what it says wrongly, or may have meant to say.
    """

    signature: _Signature | None
    seen_at: float
    is_recent: bool
    digest: bytes
    contents: Contents
    carried: dict[Key, Resource]


class FileSource:
    """Reads a directory and tells what changed in it.

    Args:
        directory: where the files are, at any depth.
        clock: monotonic seconds.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._files: dict[str, _File] = {}
        self._objects: dict[Key, Resource] = {}
        self._missing_since: dict[Key, float] = {}
        self._problems: tuple[SourceProblem, ...] = ()

    def __repr__(self) -> str:
        return f"<FileSource {self._directory} files={len(self._files)} objects={len(self._objects)}>"

    @property
    def name(self) -> str:
        """The directory, for people."""
        return str(self._directory)

    @property
    def is_settling(self) -> bool:
        """Whether something is missing that may come back: look again after `SETTLE_S`."""
        return bool(self._missing_since)

    def look(self) -> ObjectChanges | None:
        """Compare the directory with what was read before; None if nothing changed, problems included."""
        walk_problems = self._read_files()
        objects, problems = self._merge()
        objects |= self._missing(objects)
        put = {key: resource for key, resource in objects.items() if self._objects.get(key) != resource}
        removed = frozenset(self._objects.keys() - objects.keys())
        found = (*walk_problems, *problems)
        is_same = not put and not removed and found == self._problems
        self._objects, self._problems = objects, found
        return None if is_same else ObjectChanges(put, removed, found)

    async def first(self) -> ObjectChanges:
        """Read everything there is."""
        changes = await asyncio.to_thread(self.look)
        return changes if changes is not None else ObjectChanges({}, frozenset(), self._problems)

    async def changes(self) -> AsyncGenerator[ObjectChanges]:
        """Watch the directory for ever and yield what changes from now on."""
        while True:
            identity = _identity(self._directory)
            async with aclosing(self._notifications()) as notifications:
                async for _ in notifications:
                    while True:
                        changes = await asyncio.to_thread(self.look)
                        if changes is not None:
                            yield changes
                        if not self.is_settling:
                            break
                        await asyncio.sleep(SETTLE_S)
                    if _identity(self._directory) != identity:
                        break  # the directory itself was replaced: the watch is on the old one

    async def _notifications(self) -> AsyncGenerator[None]:
        """Yield whenever it is time to look: once the watch stands, after notifications, and every LOOK_EVERY_MS."""
        stop = asyncio.Event()
        watch = watchfiles.awatch(
            self._directory,
            watch_filter=None,
            debounce=BURST_MS,
            step=QUIET_MS,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
            stop_event=stop,
        )
        following: asyncio.Future[None] = asyncio.ensure_future(_next(watch))
        try:
            await asyncio.sleep(0)  # one turn sets the watch up: what changed before it is found by looking now
            yield
            while True:
                await following
                yield
                following = asyncio.ensure_future(_next(watch))
        except OSError:  # not there now, or out of inotify watches: looking has to do
            await asyncio.sleep(LOOK_EVERY_MS / 1000)
            yield
        finally:
            stop.set()
            following.cancel()
            await asyncio.wait((following,))

    def _read_files(self) -> list[SourceProblem]:
        problems: list[SourceProblem] = []
        found = {os.path.relpath(path, self._directory): path for path in _walk(self._directory, (), problems)}
        files = {name: self._read(name, path) for name, path in found.items()}
        if problems:  # what could not be listed is kept
            files = {**self._files, **files}
        self._files = dict(sorted(files.items()))
        return problems

    def _read(self, name: str, path: Path) -> _File:
        before = self._files.get(name)
        try:
            signature = _signature(path)
            if before is not None and before.signature == signature and not before.is_recent:
                return before
            if signature.size > MAX_FILE_BYTES:
                return self._unreadable(name, before, f"larger than {MAX_FILE_BYTES} bytes")
            data = path.read_bytes()
        except OSError as error:
            return self._unreadable(name, before, f"cannot be read: {error.strerror}")
        seen_at = before.seen_at if before is not None and before.signature == signature else self._clock()
        is_recent = self._clock() - seen_at < _RECENT_S
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if before is not None and before.digest == digest:
            return before._replace(signature=signature, seen_at=seen_at, is_recent=is_recent)
        contents = parse(name, data)
        return _File(signature, seen_at, is_recent, digest, contents, self._carried(before, contents))

    def _unreadable(self, name: str, before: _File | None, reason: str) -> _File:
        contents = Contents({}, frozenset(), True, (SourceProblem(origin=name, reason=reason),))
        return _File(None, 0.0, False, b"", contents, self._carried(before, contents))

    def _carried(self, before: _File | None, contents: Contents) -> dict[Key, Resource]:
        """Return the last good versions of what a file gets wrong now."""
        carried = {key: self._objects[key] for key in contents.refused if key in self._objects}
        if contents.is_partly_unreadable and before is not None:
            carried = {**before.carried, **before.contents.objects, **carried}
        return carried

    def _merge(self) -> tuple[dict[Key, Resource], list[SourceProblem]]:
        """Put all files together. An object in two files is taken from the first by name; a good one wins over a carried one."""
        objects: dict[Key, Resource] = {}
        origins: dict[Key, str] = {}
        problems: list[SourceProblem] = []
        for name, file in self._files.items():
            problems += file.contents.problems
            for key, resource in file.contents.objects.items():
                origin = origins.setdefault(key, name)
                if origin != name:
                    problems.append(SourceProblem(origin=name, reason=f"also in {origin}, which is used", **key._asdict()))
                objects.setdefault(key, resource)
        for file in self._files.values():
            for key, resource in file.carried.items():
                objects.setdefault(key, resource)
        return objects, problems

    def _missing(self, objects: Mapping[Key, Resource]) -> dict[Key, Resource]:
        """Return the objects that are gone, but not for long enough to be believed."""
        now = self._clock()
        since = {key: self._missing_since.get(key, now) for key in self._objects if key not in objects}
        self._missing_since = {key: then for key, then in since.items() if now - then < SETTLE_S}
        return {key: self._objects[key] for key in self._missing_since}


async def _next(watch: AsyncGenerator[object]) -> None:
    await anext(watch)


def _walk(directory: Path, above: tuple[tuple[int, int] | None, ...], problems: list[SourceProblem]) -> Iterator[Path]:
    """Find the files to read, following links."""
    here = _identity(directory)
    try:
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        problems.append(SourceProblem(origin=str(directory), reason=f"cannot be read: {error.strerror}"))
        return
    if here in above:
        return  # a link to where we came from
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), (*above, here), problems)
        elif entry.name.endswith(SUFFIXES):
            yield Path(entry.path)


def _signature(path: Path) -> _Signature:
    status = path.stat()
    return _Signature(status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
