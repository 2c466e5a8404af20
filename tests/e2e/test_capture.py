# SPDX-License-Identifier: Apache-2.0
"""Capture and release under constant load: no request may fail, whoever keeps connections or opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from routing.capture import CAPTURED_KEY
from tests.e2e.scene import Scene

if TYPE_CHECKING:
    from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e


async def test_capture_loses_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    async with scene.load(rate=8.0) as load:
        await load.requests(1000)
        await scene.capture()
        await scene.goes_through_gateways(load)
        captured = await load.requests(2000)
    assert load.total.failures == []
    assert load.total.requests > 3000
    assert set(captured.fresh) == scene.gateway_addresses()
    assert set(captured.pods) == {pod.name for pod in scene.pods}
    # What was connected before stays where it is: nobody cuts a connection for a capture.
    assert set(captured.peers) == scene.gateway_addresses() | scene.client_addresses()


async def test_release_loses_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    await scene.capture()
    async with scene.load(rate=8.0) as load:
        before = await load.requests(1000)
        await scene.release()
        await scene.goes_direct(load)
        await cluster.until(scene.is_clean, "nothing left")
        # Those who keep a connection through a gateway are asked to leave it when the gateway stops listening.
        await load.until(lambda report: bool(report.peers) and set(report.peers) <= scene.client_addresses(), what="direct")
        released = await load.requests(2000)
    assert load.total.failures == []
    assert load.total.requests > 3000
    assert set(before.peers) == scene.gateway_addresses()
    assert set(released.peers) == scene.client_addresses()
    assert set(released.pods) == {pod.name for pod in scene.pods}


@pytest.mark.parametrize("cluster", [0.0, 1.0], ids=["quick-proxy", "slow-proxy"], indirect=True)
async def test_five_captures_and_releases_lose_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    async with scene.load(rate=8.0) as load:
        await load.requests(300)
        for _ in range(5):
            await scene.capture()
            await scene.goes_through_gateways(load)
            await load.requests(200)
            await scene.release()
            await scene.goes_direct(load)
            await load.requests(200)
    assert load.total.failures == []
    assert load.total.requests > 2000


async def test_slow_answers_survive_capture_and_release(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    async with scene.load(target="/hello?slow=1.5", rate=0.5, users="keep-GET=10,open-GET=10,keep-POST=10,open-POST=10") as load:
        await load.requests(50)
        await scene.capture()
        await scene.goes_through_gateways(load)
        await load.requests(50)
        await scene.release()
        await scene.goes_direct(load)
        await load.requests(50)
    assert load.total.failures == []


async def test_rolling_pods_of_a_captured_service_lose_no_request(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    await scene.capture()
    async with scene.load(rate=8.0) as load:
        await load.requests(500)
        for _ in range(2):
            scene.pods = await cluster.roll(scene.pods)
        last = await load.requests(1500)
    assert load.total.failures == []
    assert load.total.requests > 2000
    assert set(load.total.peers) == scene.gateway_addresses()
    assert set(last.pods) == {pod.name for pod in scene.pods}


async def test_a_forced_selector_is_harmless_and_captured_again(cluster: Cluster) -> None:
    """GitOps tools apply `spec.selector` by force: traffic goes direct meanwhile, which is valid."""
    scene = await Scene(cluster).start()
    await scene.capture()

    def force() -> None:
        cluster.change_service(scene.name, lambda service: service["spec"].update(selector={"app": scene.name}))

    async with scene.load(rate=8.0) as load:
        await load.requests(500)
        for _ in range(5):
            force()
            await cluster.until(lambda: CAPTURED_KEY in cluster.get_service(scene.name)["spec"]["selector"], "the key is back")
            await cluster.until(scene.is_captured, "captured again")
        # The same while nobody is there to add the key: pods and gateways get traffic.
        assert scene.controller is not None
        await scene.controller.kill()
        force()
        both = scene.gateway_addresses() | {pod.address for pod in scene.pods}
        await cluster.until(lambda: scene.destinations() == both, "both ways")
        mixed = await load.requests(1000)
        scene.controller = await cluster.controller(scene.identity)
        await cluster.until(scene.is_captured, "captured again")
        await scene.goes_through_gateways(load)
        await load.requests(500)
    assert load.total.failures == []
    assert load.total.requests > 2000
    assert set(mixed.fresh) == scene.gateway_addresses() | scene.client_addresses()
