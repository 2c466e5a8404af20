# SPDX-License-Identifier: Apache-2.0
"""The controller dies while it captures and releases: its successor finishes the work, and no request fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from routing.capture import SHADOW_LABEL
from tests.e2e.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

KINDS = {"Service", "EndpointSlice"}
"""What capture writes; Leases, Events and the like are no steps."""


class Killer:
    """Kills the controller right after one of its steps.

    Attributes:
        steps: those after which it did.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._left = 0
        self._scene: Scene | None = None
        self.steps: list[str] = []
        cluster.api.on_write(self._wrote)

    def after(self, scene: Scene, count: int) -> None:
        """Kill a scene's controller after so many steps from now on; 0 to let it live."""
        self._scene, self._left = scene, count

    @property
    def has_struck(self) -> bool:
        """Whether it has killed the last one it was asked to."""
        return not self._left

    def _wrote(self, method: str, obj: dict[str, Any]) -> None:
        if self._left and obj["kind"] in KINDS:
            self._left -= 1
            if not self._left and self._scene is not None and self._scene.controller is not None:
                self._scene.controller.kill_now()
                what = "shadow" if SHADOW_LABEL in obj["metadata"].get("labels", {}) else obj["kind"]
                self.steps.append(f"{method} {what}")


async def _until_done(scene: Scene, killer: Killer, count: int, done: Callable[[], bool]) -> bool:
    """Wait for the end of a change whose controller dies after so many steps; tell whether it did die."""
    cluster = scene.cluster
    killer.after(scene, count)
    await cluster.until(lambda: done() or killer.has_struck, "done or dead")
    if not killer.has_struck:
        killer.after(scene, 0)
        return False
    assert scene.controller is not None
    await scene.controller.kill()
    scene.controller = await cluster.controller(scene.identity)
    await cluster.until(done, f"done after a death at step {count}")
    return True


async def test_a_controller_killed_after_any_step_loses_no_request(cluster: Cluster) -> None:
    first = await Scene(cluster).start()
    killer = Killer(cluster)
    total, failures, deaths = 0, [], {True: 0, False: 0}
    for count in range(1, 12):
        scene = await first.sibling(count)
        async with scene.load(rate=8.0) as load:
            await load.requests(200)
            for captured, done in ((True, scene.is_captured), (False, scene.is_direct)):
                scene.ask("enabled" if captured else None)
                deaths[captured] += await _until_done(scene, killer, count, done)
                await load.requests(200)
        first.controller = scene.controller
        total += load.total.requests
        failures += load.total.failures
        if max(deaths.values()) < count:
            break
    assert failures == []
    assert total > 2000
    # Captures have at least shadow, slice and selector; releases selector and slice.
    assert deaths[True] >= 3, killer.steps
    assert deaths[False] >= 2, killer.steps
    assert any("shadow" in step for step in killer.steps)


async def test_the_second_controller_takes_over_from_a_killed_one(cluster: Cluster) -> None:
    scene = await Scene(cluster).start()
    await scene.capture()
    await cluster.controller()
    first = scene.controller
    assert first is not None
    async with scene.load(rate=8.0) as load:
        await load.requests(500)
        await first.kill()
        scene.ask(None)
        await cluster.until(scene.is_direct, "released by the second controller", timeout_s=60.0)
        await scene.goes_direct(load)
        await load.requests(500)
    assert load.total.failures == []
