# SPDX-License-Identifier: Apache-2.0
"""Where objects come from, files or Kubernetes, and how that is going.

A source gives everything once (`first`) and then what changes (`changes`), as it comes. What it is made of differs, and so does
what can be said about it: a directory is there or not, a watch may be waiting, in trouble, or old.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from acmgproxy.app.options import StartError
from discovery.files import FileSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from acmgproxy.app.options import KubernetesOptions, RunOptions
    from acmgproxy.metrics.kube import WatchState
    from discovery.objects import ObjectChanges

__all__ = ["LOOK_EVERY_S", "OpenSource", "Source", "WatchLog", "open_source", "waiting_for"]

LOOK_EVERY_S = 1.0
"""How often watches are looked at for what the log has to say."""


class Source(Protocol):
    """Gives objects."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    async def first(self) -> ObjectChanges:
        """Return every object there is, once all of them are known."""

    def changes(self) -> AsyncGenerator[ObjectChanges]:
        """Yield what changes from then on, for ever."""


async def _nothing() -> None:
    return


class OpenSource(NamedTuple):
    """A source in use.

    Args:
        source: gives the objects.
        watches: says how each kind is doing; files have no kinds.
        close: lets go of what it holds.
    """

    source: Source
    watches: Callable[[], Sequence[WatchState]] = lambda: ()
    close: Callable[[], Awaitable[None]] = _nothing


async def open_source(options: RunOptions) -> OpenSource:
    """Open the source that the options name.

    Raises:
        StartError: there is no such thing.
    """
    if options.kubernetes is not None:
        return await _open_kubernetes(options.kubernetes)
    assert options.directory is not None
    return await _open_directory(options.directory)


async def _open_directory(directory: Path) -> OpenSource:
    if not await asyncio.to_thread(directory.is_dir):
        raise StartError(f"{directory} is not a directory")
    return OpenSource(FileSource(directory))


async def _open_kubernetes(options: KubernetesOptions) -> OpenSource:
    from discovery.kube import ConfigError, KubeClient, KubeSource  # noqa: PLC0415 - 60 MB and most of a second, for clusters only

    try:
        client = await KubeClient.connect(kubeconfig=options.kubeconfig, context=options.context)
    except ConfigError as error:
        raise StartError(str(error)) from error
    source = KubeSource(client)

    async def close() -> None:
        await source.close()
        await client.close()

    return OpenSource(source, source.watches, close)


def waiting_for(watches: Iterable[WatchState]) -> str:
    """Say which kinds have not been read yet, and why, as in `kubernetes: Service, Pod (connection refused)`; "" if all have."""
    kinds: dict[str, list[str]] = {}
    for watch in watches:
        if not (watch.synced or watch.absent):
            kinds.setdefault(watch.last_error, []).append(watch.kind)
    reasons = (f"{', '.join(names)} ({reason})" if reason else ", ".join(names) for reason, names in kinds.items())
    return f"kubernetes: {'; '.join(reasons)}" if kinds else ""


class WatchLog:
    """Says once that a watch is in trouble, and once that it is well again, however often it tries in between.

    A watch that failed and has heard nothing since is in trouble. One that was cut off and goes on at once is not: that happens
    all the time.

    Args:
        log: where.
        clock: monotonic seconds.
    """

    def __init__(self, log: FilteringBoundLogger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._errors: dict[str, int] = {}
        self._troubled_since: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<WatchLog troubled={sorted(self._troubled_since)}>"

    def look(self, watches: Iterable[WatchState]) -> None:
        """Compare how watches are doing with what has been said about them; to be called every `LOOK_EVERY_S`."""
        now = self._clock()
        started: dict[str, list[str]] = {}
        ended: list[str] = []
        for watch in watches:
            kind = watch.kind
            has_failed = watch.errors > self._errors.get(kind, 0)
            self._errors[kind] = watch.errors
            if kind in self._troubled_since:
                if watch.stale_s < now - self._troubled_since[kind]:
                    del self._troubled_since[kind]
                    ended.append(kind)
            elif has_failed and watch.stale_s > LOOK_EVERY_S:
                self._troubled_since[kind] = now
                started.setdefault(watch.last_error, []).append(kind)
        for reason, kinds in started.items():
            hint = "what is known stays in force; it is tried again"
            self._log.warning("watching kubernetes fails", kinds=kinds, reason=reason, hint=hint)
        if ended:
            self._log.info("watching kubernetes again", kinds=ended)
