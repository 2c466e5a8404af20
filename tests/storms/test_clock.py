# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps by an hour, there and back again and again: only monotonic time decides anything.

libfaketime gives a gateway another CLOCK_REALTIME and leaves CLOCK_MONOTONIC alone; a file says by how much it is off. That the
gateway really lives in the false time is seen at the Date of its answers.
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import pytest

from acmgproxy.controller.leader import Elector
from discovery.kube import KubeClient
from tests.interop.client import RawClient
from tests.interop.gateway import wait_for
from tests.kube import FakeApiServer
from tests.storms.load import Load
from tests.storms.pods import Reply
from tests.storms.site import destination_rule, endpoint, virtual_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.upstream import Address
    from tests.storms.site import Site

HOUR_S = 3600
JUMPS = (HOUR_S, -HOUR_S, 0, 2 * HOUR_S, -2 * HOUR_S)


def library() -> Path:
    """Return where libfaketime is (Debian, Ubuntu: package faketime)."""
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: apt install faketime"
    return found[0]


class WallClock:
    """The wall clock of a process that is started with `environment`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faketime"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }

    def set(self, offset_s: int) -> None:
        """Put it forward, or back."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{offset_s:+d}s\n", encoding="ascii")
        draft.replace(self._file)


class Jumping:
    """Lets a wall clock jump every fifth of a second while the block runs."""

    def __init__(self, clock: WallClock) -> None:
        self.jumps = 0
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jumping", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._clock.set(JUMPS[self.jumps % len(JUMPS)])
            self.jumps += 1


def date_of(address: Address) -> datetime:
    """Return the Date of an answer of the gateway's own."""
    with RawClient(address) as client:
        client.send(b"GET /here HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        return parsedate_to_datetime(client.answer().headers["date"])


def timed(address: Address, path: str) -> tuple[int, float]:
    """Ask once; return status and how long it took."""
    began = time.monotonic()
    with RawClient(address) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n".encode())
        return client.answer().status, time.monotonic() - began


@pytest.mark.slow
def test_a_gateway_lives_by_monotonic_time_alone(site: Site, tmp_path: Path) -> None:
    good, sick = site.pods.address(), site.pods.address()
    failing = {sick}
    site.pods.behave = lambda address, path: (
        Reply(delay_s=3.0) if path == "/slow" else Reply(503 if address in failing else 200, 0.0)
    )
    web = site.add_service("web", good, sick)
    outlier = {"consecutive5xxErrors": 3, "interval": "1s", "baseEjectionTime": "2s", "maxEjectionPercent": 50}
    budget = {"percent": 100, "minRetryConcurrency": 20}
    site.put(destination_rule("web", trafficPolicy={"outlierDetection": outlier, "retryBudget": budget}))
    onward = {"route": [{"destination": {"host": "web"}}]}
    site.put(
        virtual_service(
            "web",
            ["web"],
            {"match": [{"uri": {"exact": "/here"}}], "directResponse": {"status": 200}},
            {"match": [{"uri": {"exact": "/slow"}}], "timeout": "0.5s", **onward},
            {"retries": {"attempts": 3, "retryOn": "5xx"}, **onward},
        )
    )
    clock = WallClock(tmp_path)
    site.start("--set", "headers_timeout_s=2", env=clock.environment)
    workers = site.gateway.workers()
    for offset_s in (HOUR_S, -HOUR_S):
        clock.set(offset_s)
        wait_for(partial(is_off, web.address, offset_s), "the gateway lives in a false time")

    with Load(web.address, host="web", keepers=8, newcomers=4, pause_s=0.001) as load, Jumping(clock) as jumping:
        with RawClient(web.address) as silent:
            began = time.monotonic()
            silent.send(b"GET / HTTP/1.1\r\n")
            for _ in range(5):
                status, took_s = timed(web.address, "/slow")
                assert status == 504
                assert 0.4 < took_s < 1.5, "timeouts"
            assert silent.answer().status == 408
            assert 1.5 < time.monotonic() - began < 6, "the time limit of heads"
        wait_for(lambda: site.metric("acmg_endpoint_ejections_total") > 0, "the sick one is ejected")
        failing.clear()
        healed_at = time.monotonic()
        wait_for(lambda: sick in load.bodies(time.monotonic() - 0.1), "and back")
        assert time.monotonic() - healed_at < 12, "ejections end"
        site.cluster.do(lambda api: api.faults.cut_watches(abort=True))
        cut_at = time.monotonic()
        late = site.pods.address()
        site.put_slice("web", endpoint(good), endpoint(sick), endpoint(late))
        wait_for(lambda: load.bodies(cut_at)[late], "the watch is back")
        assert 0.3 < time.monotonic() - cut_at < 8, "after its backoff"
        stale_s = site.metric("acmg_watch_stale_seconds", kind="Service")
        assert 0 <= stale_s < 120, "the age of what is known"
        load.wait_for_total(10_000)
    assert jumping.jumps > 15
    load.check(10_000)
    assert site.is_ready()
    assert site.gateway.workers() == workers, "nobody took a jump for a hang"
    requests = site.cluster.do(lambda api: len(api.requests))
    assert requests < 60, "and the API server was left alone"


def is_off(address: Address, offset_s: int) -> bool:
    """Tell whether the gateway's clock is off by about so much."""
    return abs(date_of(address) - (datetime.now(UTC) + timedelta(seconds=offset_s))) < timedelta(minutes=5)


class JumpingDatetime:
    """Stands in for `datetime` where the Lease's times are written; each look finds another hour."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self, zone: Any) -> datetime:
        self.looks += 1
        return datetime.now(zone) + timedelta(seconds=JUMPS[self.looks % len(JUMPS)])


@pytest.fixture
def jumping_datetime() -> Iterator[JumpingDatetime]:
    clock = JumpingDatetime()
    with mock.patch("acmgproxy.controller.leader.datetime", clock):
        yield clock


async def test_the_controllers_lease_neither_changes_hands_nor_has_two(jumping_datetime: JumpingDatetime, tmp_path: Path) -> None:
    leading: list[tuple[str, bool]] = []
    async with FakeApiServer() as api:
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "acmg-system"}})
        client = await KubeClient.connect(kubeconfig=api.kubeconfig(tmp_path))
        electors = [
            Elector(
                client,
                namespace="acmg-system",
                identity=name,
                clock=time.monotonic,
                on_change=lambda leads, name=name: leading.append((name, leads)),  # type: ignore[misc]
                lease_s=3.0,
                renew_deadline_s=2.0,
                retry_s=0.05,
            )
            for name in ("first", "second", "third")
        ]
        tasks = [asyncio.create_task(elector.run()) for elector in electors]
        deadline = time.monotonic() + 20
        while jumping_datetime.looks < 60:
            assert time.monotonic() < deadline
            assert sum(elector.is_leader for elector in electors) <= 1
            await asyncio.sleep(0.01)
        lease = api.get("Lease", "acmg-system", "acmg-controller")
        assert lease is not None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
    assert [leads for _, leads in leading] == [True], leading
    assert lease["spec"]["holderIdentity"] == leading[0][0]
    assert lease["spec"].get("leaseTransitions", 0) == 0
