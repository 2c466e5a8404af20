# SPDX-License-Identifier: Apache-2.0
"""The shell around a watch's state machine, with answers from a script. Over real HTTP: tests/interop/test_watch.py."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from discovery.kube import SERVICES, VIRTUAL_SERVICES, ApiError, ApiKind, Watched, WatchLimits
from discovery.kube.machine import Features, Happening
from discovery.kube.watched import classified

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from discovery.kube import WatchChange

Answer = ApiError | list[Any] | dict[str, Any]


class Stream:
    """A stream of prepared pieces; an error among them is raised, at the end comes the end."""

    def __init__(self, pieces: list[Any], silence_s: float, script: Script) -> None:
        self.silence_s = silence_s
        self._pieces = pieces
        self._script = script

    async def read(self) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if isinstance(piece, ApiError):
            raise piece
        if isinstance(piece, float):
            self._script.now += piece
            return await self.read()
        return piece if isinstance(piece, bytes) else orjson.dumps(piece) + b"\n"


class Script:
    """A client that answers from a script: a list is a stream, a dict a page. After the last answer it hangs."""

    def __init__(self, *answers: Answer) -> None:
        self.features = Features()
        self.queries: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.waits: list[float] = []
        self.streams: list[Stream] = []
        self.changes: list[WatchChange[Any]] = []
        self.now = 0.0
        self.finished = asyncio.Event()
        self._answers = list(answers)

    async def _next(self, path: str, query: Mapping[str, object]) -> Any:
        if not self._answers:
            self.finished.set()
            await asyncio.Event().wait()
        self.paths.append(path)
        self.queries.append({name: value for name, value in query.items() if value is not None})
        answer = self._answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    @asynccontextmanager
    async def stream(self, path: str, *, query: Mapping[str, object], answer_s: float, silence_s: float) -> AsyncIterator[Stream]:
        assert answer_s
        self.streams.append(Stream(await self._next(path, query), silence_s, self))
        yield self.streams[-1]

    async def read(self, method: str, path: str, *, query: Mapping[str, object], timeout_s: float) -> bytes:
        assert method == "GET"
        assert timeout_s
        return orjson.dumps(await self._next(path, query))

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def run(
        self, kind: ApiKind = SERVICES, *, limits: WatchLimits | None = None, decode: Any = orjson.loads
    ) -> Watched[Any]:
        """Run a watch until the script is over."""
        client: Any = self
        watched: Watched[Any] = Watched(
            client,
            kind,
            decode,
            on_change=self.changes.append,
            limits=limits,
            clock=lambda: self.now,
            sleep=self.sleep,
            draw=lambda: 0.0,
        )
        task = asyncio.create_task(watched.run())
        waiting = asyncio.create_task(self.finished.wait())
        await asyncio.wait({task, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        waiting.cancel()
        await asyncio.wait({task, waiting})
        if not task.cancelled():
            task.result()
        return watched


def obj(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": str(version)}}


def added(name: str, version: int, type_: str = "ADDED") -> dict[str, Any]:
    return {"type": type_, "object": obj(name, version)}


def bookmark(version: int, *, end: bool = False) -> dict[str, Any]:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version), "annotations": annotations}}}


def error(code: int, message: str = "", reason: str = "", **details: int) -> dict[str, Any]:
    return {"type": "ERROR", "object": {"code": code, "message": message, "reason": reason, "details": details}}


SNAPSHOT = [added("a", 3), added("b", 2), bookmark(10, end=True)]
SILENCE = ApiError(0, "Silence", "nothing came")


async def test_a_watch_asks_for_a_snapshot_as_a_stream_with_a_time_limit() -> None:
    script = Script([*SNAPSHOT])
    watched = await script.run()
    assert script.paths == ["/api/v1/services"]
    assert script.queries[0] == {
        "watch": True,
        "allowWatchBookmarks": True,
        "timeoutSeconds": 300,
        "sendInitialEvents": True,
        "resourceVersionMatch": "NotOlderThan",
    }
    (change,) = script.changes
    assert set(change.put) == {("n", "a"), ("n", "b")}
    assert watched.synced


async def test_a_stream_that_ends_soon_is_continued_after_a_wait_one_that_lived_at_once() -> None:
    script = Script([*SNAPSHOT], [60.0], [bookmark(20)], [])
    watched = await script.run()
    assert [query.get("resourceVersion") for query in script.queries] == [None, "10", "10", "20"]
    assert script.waits == [0.8, 1.6, 3.2]
    assert watched.status().errors == 3


async def test_while_the_snapshot_comes_silence_is_suffered_for_a_shorter_time() -> None:
    script = Script([*SNAPSHOT])
    await script.run()
    assert script.streams[0].silence_s == WatchLimits().silence_s
    script = Script([added("a", 3)])
    await script.run()
    assert script.streams[0].silence_s == WatchLimits().sync_silence_s


async def test_a_snapshot_whose_end_is_never_told_is_listed() -> None:
    page = {"metadata": {"resourceVersion": "9"}, "items": [obj("c", 1)]}
    script = Script([added("a", 3), SILENCE], page)
    await script.run()
    assert [set(change.put) for change in script.changes] == [{("n", "c")}]
    assert script.queries[1] == {"limit": 500}


async def test_a_server_that_takes_the_wish_for_a_plain_watch_is_listed_for_ever() -> None:
    script = Script([added("a", 3), bookmark(5)], {"metadata": {"resourceVersion": "9"}, "items": None})
    watched = await script.run()
    assert not script.features.watch_list
    assert watched.synced
    assert script.waits == []


async def test_an_object_deleted_while_the_snapshot_is_told_is_not_in_it() -> None:
    script = Script([added("a", 3), added("b", 4), added("a", 5, "DELETED"), bookmark(10, end=True)])
    await script.run()
    assert set(script.changes[0].put) == {("n", "b")}


async def test_silence_after_life_goes_on_silence_from_the_start_begins_anew() -> None:
    script = Script([*SNAPSHOT, SILENCE], [bookmark(20), SILENCE], [SILENCE], [*SNAPSHOT])
    watched = await script.run()
    assert [query.get("resourceVersion") for query in script.queries] == [None, "10", "20", None]
    assert watched.status().relists == 1


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (error(500, "etcdserver: request timed out"), "10"),
        (error(504, "slow"), "10"),
        (error(504, "Too large resource version: 10, current: 5", "Timeout"), None),
        (error(410, "too old resource version", "Expired"), None),
        (error(400, "bad"), None),
        ({"type": "ERROR", "object": "?"}, "10"),
    ],
)
async def test_an_error_on_the_stream_means_what_its_code_means(line: dict[str, Any], version: str | None) -> None:
    script = Script([*SNAPSHOT, line], [*SNAPSHOT])
    watched = await script.run()
    assert script.queries[1].get("resourceVersion") == version
    assert watched.status().errors >= 1


async def test_an_error_on_the_stream_may_ask_for_time() -> None:
    script = Script([*SNAPSHOT, error(429, retryAfterSeconds=33)], [])
    await script.run()
    assert script.waits[0] == 33


async def test_what_is_no_event_is_not_passed_over() -> None:
    script = Script([*SNAPSHOT, b'{"object":{}}\n', added("c", 11)])
    watched = await script.run()
    assert "no event" in watched.status().last_error
    assert len(script.changes) == 1


async def test_an_event_of_a_type_unheard_of_is_passed_over() -> None:
    script = Script([*SNAPSHOT, added("c", 11, "PONDERED"), added("d", 12)])
    await script.run()
    assert set(script.changes[-1].put) == {("n", "d")}


async def test_a_page_without_a_version_is_no_list() -> None:
    script = Script(
        ApiError(422, "Invalid", "no"), {"metadata": {}, "items": []}, {"metadata": {"resourceVersion": "1"}, "items": []}
    )
    watched = await script.run()
    assert script.waits == [0.8]
    assert watched.synced


async def test_the_loop_has_its_turn_while_much_is_decoded() -> None:
    lines = b"".join(orjson.dumps(added(f"x{number}", number + 1)) + b"\n" for number in range(300))
    page = {"metadata": {"resourceVersion": "1"}, "items": [obj(f"x{number}", number) for number in range(300)]}
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for script in (Script([lines, bookmark(999, end=True)]), Script(ApiError(400, "", ""), page)):
        turns = 0
        counting = asyncio.create_task(count())
        await script.run(limits=WatchLimits(slice_s=0.0))
        counting.cancel()
        assert turns >= 300


async def test_staleness_counts_from_the_last_word_of_the_server() -> None:
    script = Script([*SNAPSHOT, 40.0, bookmark(11), 25.0, ApiError(0, "Cut", "reset")])
    watched = await script.run()
    assert watched.status().stale_s == pytest.approx(25)
    assert (await Script(ApiError(0, "Unreachable", "refused")).run()).status().stale_s == float("inf")


async def test_an_object_that_fails_its_decoder_in_any_way_costs_no_other() -> None:
    def decode(raw: bytes) -> str:
        found = orjson.loads(raw)["metadata"]["name"]
        return str({"b": "b"}[found])

    script = Script([*SNAPSHOT])
    watched = await script.run(decode=decode)
    assert script.changes[0].put == {("n", "b"): "b"}
    assert str(script.changes[0].problems[0]) == "kubernetes: Service n/a: cannot be read: 'a'"
    assert watched.synced


async def test_a_defect_of_ours_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, line: bytes) -> bool:
        raise ZeroDivisionError("oops")

    script = Script([*SNAPSHOT], {"metadata": {"resourceVersion": "1"}, "items": []})
    monkeypatch.setattr(Watched, "_take_line", fail)
    watched = await script.run()
    assert watched.synced
    assert watched.status().last_error == "ZeroDivisionError: oops"
    assert script.waits == [0.8]


async def test_an_absent_kind_is_no_error() -> None:
    gone = ApiError(404, "NotFound", "the server could not find the requested resource")
    script = Script(gone, gone, gone, gone)
    watched = await script.run(VIRTUAL_SERVICES)
    assert [path.split("/")[3] for path in script.paths] == ["v1", "v1beta1", "v1alpha3", "v1"]
    assert script.waits == [30]
    assert watched.status()[1:] == (True, True, 0, 0.0, 0, 0, "")
    assert "absent" in repr(watched)


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (0, Happening.FAILED),
        (401, Happening.FAILED),
        (403, Happening.FAILED),
        (409, Happening.FAILED),
        (429, Happening.FAILED),
        (500, Happening.FAILED),
        (503, Happening.FAILED),
        (400, Happening.REJECTED),
        (422, Happening.REJECTED),
        (404, Happening.NOT_FOUND),
        (410, Happening.EXPIRED),
    ],
)
def test_each_status_has_a_meaning(status: int, what: Happening) -> None:
    assert classified(ApiError(status, "", "")) is what
