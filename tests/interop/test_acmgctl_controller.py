# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl` beside a real controller: it captures and releases, and uninstalls without its help or against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.interop.acmgctl import Acmgctl
from tests.interop.controller_world import World, eventually, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REAL = {"10.0.0.1", "10.0.0.2"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.open(tmp_path) as world:
        await world.two_gateways_and_pods()
        yield world
        assert not world.broken


@pytest.fixture
def acmgctl(world: World) -> Acmgctl:
    return Acmgctl(world.kubeconfig)


async def test_a_service_is_captured_and_released_by_the_controller(world: World, acmgctl: Acmgctl) -> None:
    world.api.put(service(metadata={"labels": {}}))
    _ = await world.controller()
    ended = await acmgctl("capture", "hello")
    assert ended.code == 0, ended.err
    assert "Service default/hello is captured\n" in ended.out
    await eventually(world.is_captured)
    found = json.loads((await acmgctl("status", "-o", "json")).out)
    (entry,) = found["services"]
    assert (entry["state"], entry["gateway_ports"]) == ("captured", {"80": world.gateway_ports()[80]})
    ended = await acmgctl("release", "hello")
    assert ended.code == 0, ended.err
    assert ended.out.endswith("Service default/hello is direct\n")
    assert (world.natively(), world.ours()) == (REAL, [])


async def test_a_refusal_is_the_controllers_own(world: World, acmgctl: Acmgctl) -> None:
    world.api.put(service(clusterIP="None"))
    _ = await world.controller()
    await eventually(lambda: world.status().startswith("refused: "))
    ended = await acmgctl("capture", "hello")
    assert ended.code == 1
    assert f"cannot be captured: {world.status().removeprefix('refused: ')}. Nothing was changed\n" in ended.err


async def test_uninstall_releases_what_a_controller_that_died_has_captured(world: World, acmgctl: Acmgctl) -> None:
    world.api.put(service())
    controller = await world.controller()
    await eventually(world.is_captured)
    await world.kill(controller)
    ended = await acmgctl("uninstall", "-y", "--linger", "1s")
    assert ended.code == 0, ended.err
    assert "Service default/hello released\n" in ended.out
    assert world.is_clean()
    assert world.natively() == REAL
    assert not world.dead_ways


async def test_uninstall_is_not_undone_by_a_controller_that_goes_on(world: World, acmgctl: Acmgctl) -> None:
    world.api.put(service())
    controller = await world.controller()
    await eventually(world.is_captured)
    ended = await acmgctl("uninstall", "-y", "--linger", "1s")
    assert ended.code == 0, ended.err
    assert "taking over from the controller one" in ended.err
    assert world.is_clean()
    await eventually(lambda: controller.is_leader and controller.is_idle)
    assert world.is_clean()
    assert world.natively() == REAL
