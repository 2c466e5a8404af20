# SPDX-License-Identifier: Apache-2.0
"""A watch over real HTTP, through everything that an API server and a network can do to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from discovery.kube import ENDPOINT_SLICES, SERVICES, VIRTUAL_SERVICES, KubeSource, Watched, WatchLimits
from discovery.kube.decoding import decoder_for
from tests.interop.watch_kit import Obj, Scene, service, until, watching
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kube.requests import Request

QUICK = WatchLimits(silence_s=0.2, sync_silence_s=0.2)


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        for name in "abc":
            server.put(service(name, "1"))
        yield server


def is_watch(request: Request) -> bool:
    return request.is_watch


async def test_the_first_snapshot_is_one_stream_and_changes_follow_on_it(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        assert scene.labels == {"a": "1", "b": "1", "c": "1"}
        api.put(service("a", "2"))
        api.delete("Service", "default", "b")
        api.put(service("d", "1"))
        await scene.agreed()
        assert scene.requests() == 1
        assert scene.watched.status()[:7] == ("Service", True, False, 3, 0.0, 0, 0)


async def test_an_empty_kind_is_told_too(tmp_path: Path) -> None:
    async with FakeApiServer() as api, watching(api, tmp_path) as scene:
        await until(lambda: scene.changes, scene)
        assert scene.changes == [({}, set(), ())]
        assert scene.watched.synced


async def blind(scene: Scene) -> None:
    """Let objects change so that the watch cannot learn it from where it is."""
    await scene.agreed()
    scene.api.faults.reset(count=2)
    scene.api.faults.cut_watches(abort=True)
    scene.api.delete("Service", "default", "a")
    scene.api.put(service("b", "2"))
    scene.api.put(service("e", "1"))
    scene.api.faults.compact()


@pytest.mark.parametrize("as_status", [False, True])
@pytest.mark.parametrize("watch_list", [False, True])
async def test_after_410_a_new_snapshot_replaces_everything(
    api: FakeApiServer, tmp_path: Path, as_status: bool, watch_list: bool
) -> None:
    api.open_watches.watch_list = watch_list
    api.faults.gone_as_status = as_status
    async with watching(api, tmp_path) as scene:
        await blind(scene)
        await scene.agreed()
        assert scene.labels == {"b": "2", "c": "1", "e": "1"}
        last = scene.changes[-1]
        assert set(last.put) == {("default", "b"), ("default", "e")}
        assert last.removed == {("default", "a")}
        assert scene.watched.status().relists == 1


async def test_410_sent_on_an_open_stream_leads_to_a_new_snapshot(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        api.faults.expire_watches()
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert len(scene.changes) == 1  # nothing had changed
        assert "410" in scene.watched.status().last_error


async def test_410_for_a_token_begins_the_list_again_with_larger_pages(api: FakeApiServer, tmp_path: Path) -> None:
    api.open_watches.watch_list = False
    api.faults.answer(410, match=lambda request: "continue" in request.query)
    async with watching(api, tmp_path, limits=WatchLimits(page=1)) as scene:
        await scene.agreed()
        pages = [request.query for request in api.requests if not request.is_watch]
        assert [(page["limit"], "continue" in page) for page in pages] == [("1", False), ("1", True), ("10", False)]


async def test_without_watch_list_pages_are_put_together(api: FakeApiServer, tmp_path: Path) -> None:
    api.open_watches.watch_list = False
    async with watching(api, tmp_path, limits=WatchLimits(page=1)) as scene:
        await scene.agreed()
        assert len(scene.changes) == 1
        assert scene.requests(is_watch=False) == 3
        api.put(service("d"))
        await scene.agreed()
        api.faults.expire_watches()
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert sum("sendInitialEvents" in request.query for request in api.requests) == 1


async def test_a_server_that_answers_400_to_watch_list_is_listed(api: FakeApiServer, tmp_path: Path) -> None:
    api.faults.answer(400, count=None, match=lambda request: "sendInitialEvents" in request.query)
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        assert not scene.client.features.watch_list
        assert scene.time.waits == []


async def test_429_waits_as_long_as_the_server_asks_and_does_not_list_again(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        api.faults.answer(429, retry_after_s=40)
        api.faults.cut_watches(abort=True)
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.time.waits == pytest.approx([1.2, 60])
        assert scene.watched.status().relists == 0


async def test_a_storm_of_500_is_weathered_with_the_old_objects(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        storm = api.faults.answer(500, count=None)
        api.faults.cut_watches()
        await until(lambda: len(scene.time.waits) >= 200, scene)
        assert scene.labels == {"a": "1", "b": "1", "c": "1"}
        assert len(scene.time.waits) / (scene.time.now - 1000) < 1 / 30
        assert scene.watched.status().stale_s > 3600
        api.faults.cancel(storm)
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.watched.status().relists == 0


async def test_a_server_that_ends_every_watch_at_once_is_asked_less_than_twice_a_minute(
    api: FakeApiServer, tmp_path: Path
) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        begin, already = scene.time.now, scene.requests()
        api.faults.end_watches_at_once = True
        api.faults.cut_watches()
        await until(lambda: scene.requests() >= already + 1000, scene)
        minutes = (scene.time.now - begin) / 60
        assert (scene.requests() - already) / minutes < 2
        api.faults.end_watches_at_once = False
        api.put(service("a", "2"))
        await scene.agreed()


async def test_half_a_line_and_a_reset_lose_nothing(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        await scene.open()
        api.faults.halve_next_line()
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.watched.status().relists == 0
        assert scene.watched.status().errors == 1


async def test_half_a_snapshot_changes_nothing(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        api.faults.half(match=lambda request: "sendInitialEvents" in request.query)
        api.faults.half(match=lambda request: not request.is_watch)
        api.delete("Service", "default", "a")
        await scene.agreed()
        api.faults.expire_watches()
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert scene.labels == {"b": "1", "c": "1"}
        assert len(scene.changes) == 2


async def test_a_stream_that_hangs_is_noticed_and_continued(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path, limits=QUICK) as scene:
        await scene.agreed()
        api.faults.freeze_watches()
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.watched.status().relists == 0
        assert "nothing came" in scene.watched.status().last_error


async def test_a_request_that_hangs_is_given_up(api: FakeApiServer, tmp_path: Path) -> None:
    api.faults.hang(count=2)
    async with watching(api, tmp_path, limits=WatchLimits(answer_s=0.1)) as scene:
        await scene.agreed()
        assert "did not answer" in scene.watched.status().last_error


async def test_a_bookmark_alone_is_enough_to_go_on_from(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        await scene.open()
        api.faults.compact()  # what happened to other kinds
        api.faults.bookmark()
        scene.time.now += 50
        api.faults.cut_watches()
        await scene.open(2)
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.watched.status().relists == 0


async def test_a_rotated_token_is_found_in_the_kubeconfig(tmp_path: Path) -> None:
    async with FakeApiServer(token="old") as api, watching(api, tmp_path) as scene:
        api.put(service("a", "1"))
        await scene.agreed()
        api.rotate_token("new")
        api.faults.cut_watches(abort=True)
        await until(lambda: scene.watched.status().errors > 3, scene)
        assert "401" in scene.watched.status().last_error
        api.kubeconfig(tmp_path)
        api.put(service("a", "2"))
        await scene.agreed()
        assert scene.watched.status().relists == 0


@pytest.mark.parametrize("jump_s", [-3600, 3600])
async def test_the_wall_clock_may_jump(
    api: FakeApiServer, tmp_path: Path, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        api.put(service("a", "2"))
        await scene.agreed()
        api.faults.cut_watches()
        api.put(service("a", "3"))
        await scene.agreed()
        assert scene.time.waits == pytest.approx([1.2])
        assert scene.requests() == 2


async def test_a_server_restored_from_a_backup_is_noticed_by_its_silence(api: FakeApiServer, tmp_path: Path) -> None:
    """A real server accepts a version from its future and says nothing until it gets there."""
    async with watching(api, tmp_path, limits=QUICK) as scene:
        await scene.agreed()
        backup = api.faults.backup()
        for number in range(50):
            api.put(service("a", str(number + 2)))
        api.put(service("d", "1"))
        await scene.agreed()
        api.faults.restore(backup)
        api.put(service("b", "2"))
        await until(lambda: scene.watched.status().relists == 1, scene)
        await scene.agreed()
        assert scene.labels == {"a": "1", "b": "2", "c": "1"}
        assert scene.changes[-1].removed == {("default", "d")}


async def test_a_bookmark_with_a_version_that_went_back_leads_to_a_new_snapshot(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        backup = api.faults.backup()
        for number in range(5):
            api.put(service("a", str(number + 2)))
        await scene.agreed()
        api.faults.restore(backup)
        await scene.open(2)
        api.faults.bookmark()
        await scene.agreed()
        assert scene.watched.status().relists == 1
        assert "went back" in scene.watched.status().last_error


async def test_a_duplicate_is_no_change_and_an_old_event_does_not_win(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        await scene.open()
        api.faults.replay("Service", "default", "c")  # the last one
        api.put(service("a", "2"))
        await scene.agreed()
        assert len(scene.changes) == 2
        assert scene.requests() == 1
        api.faults.replay("Service", "default", "c")  # now an old one
        api.put(service("a", "3"))
        await scene.agreed()
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert scene.labels == {"a": "3", "b": "1", "c": "1"}


def endpoint_slice(number: int) -> Obj:
    addresses = [f"10.{number >> 8}.{number & 255}.{host}" for host in range(1, 6)]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"s{number}", "namespace": "default", "labels": {"kubernetes.io/service-name": f"s{number}"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "port": 8080}],
    }


async def test_ten_thousand_slices_at_once_arrive_whole(api: FakeApiServer, tmp_path: Path) -> None:
    for number in range(10_000):
        api.put(endpoint_slice(number), verbatim=True)
    async with watching(api, tmp_path, kind=ENDPOINT_SLICES, decode=decoder_for(ENDPOINT_SLICES)) as scene:
        await until(lambda: len(scene.told) == 10_000, scene)
        for number in range(10_000):
            obj = endpoint_slice(number)
            obj["endpoints"].pop()
            api.put(obj, verbatim=True)
        await until(lambda: all(len(found.endpoints) == 4 for found in scene.told.values()), scene)
        assert scene.watched.status().relists == 0


async def test_a_giant_object_is_reported_and_costs_nothing_else(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path, limits=WatchLimits(line_bytes=100_000)) as scene:
        await scene.agreed()
        giant = service("a", "2")
        giant["metadata"]["annotations"] = {"giant": "x" * 300_000}
        api.put(giant, verbatim=True)
        api.put(service("b", "2"))
        await until(lambda: scene.labels["b"] == "2", scene)
        assert scene.labels == {"a": "1", "b": "2", "c": "1"}
        await until(lambda: scene.problems, scene)
        assert "more than 100000 bytes" in scene.problems[0].reason
        assert scene.requests() == 1


async def test_a_line_without_end_is_given_up_without_a_hot_loop(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path, limits=WatchLimits(line_bytes=100_000), auto=False) as scene:
        await until(lambda: scene.watched.synced, scene)
        await scene.open()
        api.faults.send_line(b"x" * 500_000)
        await until(lambda: scene.time.sleeping, scene)
        assert scene.time.waits == pytest.approx([1.2])
        assert "left out" in scene.problems[0].reason
        scene.time.advance(1.2)
        api.put(service("a", "2"))
        await scene.agreed()


async def test_nonsense_on_the_stream_leads_to_a_new_snapshot_after_a_wait(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        await scene.open()
        api.faults.send_line(b"<html>bad gateway</html>\n")
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert scene.time.waits == pytest.approx([1.2])
        assert "no event" in scene.watched.status().last_error


async def test_odd_slices_are_read_and_bad_ones_keep_their_last_good_version(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(endpoint_slice(1), verbatim=True)
    async with watching(api, tmp_path, kind=ENDPOINT_SLICES, decode=decoder_for(ENDPOINT_SLICES)) as scene:
        await until(lambda: scene.told, scene)
        odd = endpoint_slice(2) | {"endpoints": None, "ports": None, "unheardOf": {"a": [1]}}
        missing = {key: value for key, value in endpoint_slice(3).items() if key not in {"endpoints", "ports"}}
        wrong = endpoint_slice(1) | {"ports": [{"name": "http", "port": "eighty"}]}
        for obj in (odd, missing, wrong):
            api.put(obj, verbatim=True)
        await until(lambda: len(scene.told) == 3 and scene.problems, scene)
        assert scene.told["default", "s2"].endpoints == scene.told["default", "s3"].endpoints == ()
        assert scene.told["default", "s1"].ports[0].port == 8080
        assert str(scene.problems[0]) == "kubernetes: EndpointSlice default/s1: ports[0].port: expected int | null, got str"
        api.faults.expire_watches()
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert scene.told["default", "s1"].ports[0].port == 8080
        assert len(scene.problems) == 1
        api.put(endpoint_slice(1), verbatim=True)
        await until(lambda: not scene.problems, scene)


def crd(*versions: str) -> Obj:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "virtualservices.networking.istio.io"},
        "spec": {
            "group": "networking.istio.io",
            "scope": "Namespaced",
            "names": {
                "kind": "VirtualService",
                "plural": "virtualservices",
                "singular": "virtualservice",
                "listKind": "VirtualServiceList",
            },
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[0],
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
                for version in versions
            ],
        },
    }


def virtual_service(name: str, version: str) -> Obj:
    spec = {"hosts": [name], "http": [{"route": [{"destination": {"host": name}}]}]}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": f"networking.istio.io/{version}", "kind": "VirtualService", "metadata": meta, "spec": spec}


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_kind_may_be_absent_come_and_go(api: FakeApiServer, tmp_path: Path, version: str) -> None:
    async with watching(api, tmp_path, kind=VIRTUAL_SERVICES, decode=decoder_for(VIRTUAL_SERVICES), auto=False) as scene:
        await until(lambda: scene.watched.synced, scene)
        assert scene.watched.status()[1:4] == (True, True, 0)
        assert scene.requests() == 3
        await until(lambda: scene.time.sleeping, scene)
        assert scene.time.waits == [45]
        api.put(crd(version))
        api.put(virtual_service("a", version))
        scene.time.advance(45)
        await until(lambda: scene.told, scene)
        assert scene.watched.status()[1:4] == (True, False, 1)
        assert scene.watched.status().errors == 0
        api.delete("CustomResourceDefinition", "", "virtualservices.networking.istio.io")
        api.faults.cut_watches(abort=True)
        scene.time.auto = True
        scene.time.advance(3600)
        await until(lambda: scene.watched.absent and not scene.told, scene)


async def test_the_kinds_of_kubernetes_itself_are_never_taken_for_absent(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        api.faults.answer(404, count=50)
        api.faults.expire_watches()
        await until(lambda: len(scene.time.waits) > 50, scene)
        await until(lambda: scene.watched.status().relists == 1, scene)
        assert len(scene.told) == 3
        assert all(not change.removed for change in scene.changes)


async def test_a_server_that_is_away_is_waited_for_at_start_and_later(api: FakeApiServer, tmp_path: Path) -> None:
    async with watching(api, tmp_path) as scene:
        await scene.agreed()
        await api.stop()
        await until(lambda: len(scene.time.waits) >= 20, scene)
        assert len(scene.told) == 3
        api.delete("Service", "default", "a")
        await api.start()
        await scene.agreed()
        assert scene.watched.status().relists == 0
    await api.stop()
    async with watching(api, tmp_path) as scene:
        await until(lambda: len(scene.time.waits) >= 3, scene)
        assert not scene.watched.synced
        assert not scene.changes
        await api.start()
        await scene.agreed()


async def test_what_may_not_be_read_is_asked_for_slowly_and_says_so(api: FakeApiServer, tmp_path: Path) -> None:
    api.faults.answer(403, count=20, message='services is forbidden: User "x" cannot list resource "services"')
    async with watching(api, tmp_path) as scene:
        await until(lambda: scene.watched.status().errors >= 10, scene)
        assert "cannot list resource" in scene.watched.status().last_error
        assert not scene.watched.synced
        await scene.agreed()


async def test_a_selector_and_a_namespace_narrow_the_watch(api: FakeApiServer, tmp_path: Path) -> None:
    api.put(service("d", "2"))
    other = service("e", "2")
    other["metadata"]["namespace"] = "other"
    api.put(other)
    async with watching(api, tmp_path, namespace="default", label_selector="v=2") as scene:
        await until(lambda: scene.told, scene)
        assert scene.labels == {"d": "2"}
        api.put(service("d", "3"))
        await until(lambda: not scene.told, scene)


async def test_a_handler_that_fails_ends_the_watch(api: FakeApiServer, tmp_path: Path) -> None:
    def fail(change: object) -> None:
        raise LookupError(str(change)[:5])

    async with watching(api, tmp_path) as scene:
        watched = Watched(scene.client, SERVICES, bytes, on_change=fail)
        with pytest.raises(LookupError):
            await asyncio.wait_for(watched.run(), 10)


async def test_a_source_tells_everything_once_all_kinds_are_known_and_then_what_changes(
    api: FakeApiServer, tmp_path: Path
) -> None:
    async with watching(api, tmp_path) as scene:
        source = KubeSource(scene.client)
        first = await asyncio.wait_for(source.first(), 10)
        assert {key.name for key in first.put if key.kind == "Service"} == {"a", "b", "c"}
        assert {status.kind for status in source.watches() if status.absent} == {
            "VirtualService",
            "DestinationRule",
            "ServiceEntry",
            "Telemetry",
        }
        api.put(service("d"))
        api.delete("Service", "default", "a")
        changes = source.changes()
        change = await asyncio.wait_for(anext(changes), 10)
        assert {key.name for key in change.put} == {"d"}
        assert {key.name for key in change.removed} == {"a"}
        await source.close()
    assert source.name == f"kubernetes at {api.url}"
