# SPDX-License-Identifier: Apache-2.0
"""The source made of watches. Against a server: tests/interop/test_watch.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from discovery.kube import PODS, SERVICES, KubeSource, WatchChange
from discovery.kube.machine import Features
from discovery.objects import Key, SourceProblem


class Nobody:
    """A client that never gets an answer."""

    server = "http://nobody"
    features = Features()


def source() -> KubeSource:
    client: Any = Nobody()
    return KubeSource(client, (SERVICES, PODS))


def change(*put: str, removed: tuple[str, ...] = (), problem: str = "") -> WatchChange[Any]:
    problems = (SourceProblem(origin="kubernetes", name="x", reason=problem),) if problem else ()
    return WatchChange({("n", name): object() for name in put}, {("n", name) for name in removed}, problems)


async def test_all_that_piled_up_is_handed_over_at_once() -> None:
    found = source()
    services, pods = found._taker("Service"), found._taker("Pod")
    services(change("a", "b", problem="bad service"))
    services(change("c", removed=("a", "d")))
    services(change("d", problem="bad service"))
    pods(change("a", problem="bad pod"))
    first = await asyncio.wait_for(anext(found.changes()), 10)
    assert set(first.put) == {Key("Service", "n", name) for name in "bcd"} | {Key("Pod", "n", "a")}
    assert first.removed == {Key("Service", "n", "a")}
    assert [problem.reason for problem in first.problems] == ["bad pod", "bad service"]
    pods(change(removed=("a",)))
    second = await asyncio.wait_for(anext(found.changes()), 10)
    assert not second.put
    assert second.removed == {Key("Pod", "n", "a")}
    assert [problem.reason for problem in second.problems] == ["bad service"]


@pytest.mark.parametrize("how", ["raises", "ends"])
async def test_a_watch_that_dies_is_not_kept_secret(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: object) -> None:
        if how == "raises":
            raise LookupError("a defect")

    monkeypatch.setattr("discovery.kube.watched.Watched.run", run)
    found = source()
    with pytest.raises(LookupError if how == "raises" else RuntimeError, match="a defect" if how == "raises" else "has ended"):
        await asyncio.wait_for(found.first(), 10)
    await found.close()


def test_it_tells_where_it_is_and_how_far() -> None:
    assert repr(source()) == "<KubeSource kubernetes at http://nobody 0 of 2 kinds synced>"
    assert [status.kind for status in source().watches()] == ["Service", "Pod"]
