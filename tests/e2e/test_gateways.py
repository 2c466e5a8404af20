# SPDX-License-Identifier: Apache-2.0
"""Gateways come, leave and die while a Service is captured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.scene import Scene

if TYPE_CHECKING:
    from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

FAIL_OPEN_S = 15.0
"""Traffic is direct within this after the last gateway died: 10 s until the controller gives up, then its writes, then rules."""


@pytest.mark.parametrize("cluster", [1.0], ids=["slow-proxy"], indirect=True)
async def test_a_gateway_rollout_loses_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    await scene.capture()
    old = scene.gateways
    async with scene.load(rate=8.0) as load:
        await load.requests(500)
        scene.gateways = await cluster.roll(old)
        await cluster.until(scene.is_captured, "only the new gateways")
        await scene.goes_through_gateways(load)
        last = await load.requests(1500)
    assert load.total.failures == []
    assert load.total.requests > 2000
    assert set(last.peers) == scene.gateway_addresses()
    assert [(pod.exit_codes, pod.was_killed) for pod in old] == [([0], False)] * 2


async def test_more_and_fewer_gateways_lose_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start(gateways=1)
    await scene.capture()
    async with scene.load(rate=8.0) as load:
        await load.requests(500)
        first = scene.gateways[0]
        scene.gateways += await cluster.gateways(2)
        await cluster.until(scene.is_captured, "three gateways")
        await load.requests(500)
        await cluster.kubelet.delete(first)
        scene.gateways.remove(first)
        await cluster.until(scene.is_captured, "two gateways")
        last = await load.requests(500)
    assert load.total.failures == []
    assert set(last.peers) == scene.gateway_addresses()


async def test_without_gateways_traffic_goes_direct_and_comes_back(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    await scene.capture()
    async with scene.load(rate=8.0) as load:
        before = await load.requests(500)
        assert before.failures == []
        died = time.monotonic()
        for gateway in scene.gateways:
            # Their nodes die with them: nobody tells the API server, only the controller's own probes do.
            await cluster.kubelet.crash(gateway, is_noticed=False)
        await cluster.until(scene.is_bypassed, "direct traffic", timeout_s=FAIL_OPEN_S)
        direct_after_s = time.monotonic() - died
        await scene.goes_direct(load)
        direct = await load.requests(1000)
        for gateway in scene.gateways:
            await cluster.kubelet.start(gateway)
        await cluster.until(scene.is_captured, "captured again", timeout_s=60.0)
        await scene.goes_through_gateways(load)
        again = await load.requests(1000)
    lost = [failure for failure in load.total.failures if died <= failure["time"] + failure["after_s"]]
    cluster.notes.append(f"direct {direct_after_s:.1f} s after the last gateway died, {len(lost)} requests lost by then")
    assert direct_after_s < FAIL_OPEN_S
    assert lost, "a cluster whose gateways are all dead must lose something, or this test does not see it"
    assert len(lost) == len(load.total.failures)
    assert direct.failures == []
    assert set(direct.fresh) == scene.client_addresses()
    assert again.failures == []
    assert set(again.fresh) == scene.gateway_addresses()
