# SPDX-License-Identifier: Apache-2.0
"""Whatever changes and whatever goes wrong, in the end a watch has what the server has."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from discovery.kube import WatchLimits
from tests.interop.watch_kit import Scene, service, until, watching
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = st.sampled_from("abcd")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the server's word on the connections it was asked to break out of the way."""
    logger = logging.getLogger("aiohttp.server")
    logger.disabled = True
    yield
    logger.disabled = False


SIMPLE: dict[str, Callable[[FakeApiServer], object]] = {
    "cut": lambda api: api.faults.cut_watches(),
    "abort": lambda api: api.faults.cut_watches(abort=True),
    "expire": lambda api: api.faults.expire_watches(),
    "half line": lambda api: api.faults.halve_next_line(),
    "freeze": lambda api: api.faults.freeze_watches(),
    "bookmark": lambda api: api.faults.bookmark(),
    "compact": lambda api: api.faults.compact(),
    "toggle": lambda api: setattr(api.open_watches, "watch_list", not api.open_watches.watch_list),
    "as status": lambda api: setattr(api.faults, "gone_as_status", not api.faults.gone_as_status),
}

STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.sampled_from("123")),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("replay"), NAMES),
    st.tuples(st.just("fault"), st.sampled_from(["reset", "half", "empty"]), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.sampled_from([400, 401, 403, 404, 410, 429, 500, 503]), st.integers(1, 5)),
    st.tuples(st.just("line"), st.sampled_from([b"nonsense\n", b'{"type":"ADDED","object":{}}\n', b"x" * 3000 + b"\n"])),
    *(st.tuples(st.just(name)) for name in ("restore", "wait", *SIMPLE)),
)


async def do(scene: Scene, step: tuple[str | int | bytes, ...]) -> None:
    api, faults = scene.api, scene.api.faults
    match step:
        case ("put", str(name), str(label)):
            api.put(service(name, label))
        case ("delete", str(name)):
            api.delete("Service", "default", name)
        case ("replay", str(name)):
            if api.get("Service", "default", name):
                faults.replay("Service", "default", name)
        case ("fault", str(name), int(count)):
            getattr(faults, name)(count=count)
        case ("answer", int(status), int(count)):
            faults.answer(status, count=count)
        case ("line", bytes(line)):
            faults.send_line(line)
        case ("restore",):
            await restore(scene)
        case ("wait",):
            for _ in range(100):
                await asyncio.sleep(0)
        case (str(name),):
            SIMPLE[name](api)


async def restore(scene: Scene) -> None:
    """Go back to a backup, and wait until that is noticed: new changes with the versions of lost ones could not be."""
    scene.api.faults.clear()
    await until(lambda: scene.watched.synced, scene)
    relists = scene.watched.status().relists
    backup = scene.api.faults.backup()
    for number in range(3):
        scene.api.put(service("e", str(number)))
    await until(lambda: scene.labels == scene.server_labels, scene)
    scene.api.faults.restore(backup)
    await until(lambda: scene.watched.status().relists > relists, scene)


async def run(steps: list[tuple[str | int | bytes, ...]], directory: Path, *, from_start: bool) -> None:
    limits = WatchLimits(silence_s=0.05, sync_silence_s=0.05, page=2, line_bytes=2000)
    async with FakeApiServer() as api:
        api.put(service("a", "0"))
        api.put(service("b", "0"))
        api.put(service("c", "0"))
        async with watching(api, directory, limits=limits) as scene:
            if not from_start:
                await scene.agreed()
            for step in steps:
                await do(scene, step)
            api.faults.clear()
            await scene.agreed()
            scene.api.put(service("z", "last"))
            await scene.agreed()


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("compact",), ("cut",), ("delete", "a")], False)
@example([("toggle",), ("as status",), ("compact",), ("abort",), ("delete", "a")], True)
@example([("put", "a", "1"), ("wait",), ("replay", "b"), ("put", "b", "2")], False)
@given(st.lists(STEPS, min_size=1, max_size=15), st.booleans())
def test_in_the_end_a_watch_has_what_the_server_has(steps: list[tuple[str | int | bytes, ...]], from_start: bool) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(run(steps, Path(directory), from_start=from_start))
