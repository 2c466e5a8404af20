# SPDX-License-Identifier: Apache-2.0
"""Worlds for tests; each is checked when its test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.protocol.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from routing.specs import RuleSpec


@pytest.fixture(params=["written at once", "gathered"])
def make_world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Make worlds, both ways in which messages are written."""
    if request.param == "gathered":
        monkeypatch.setattr("acmgproxy.io.outbox.AT_ONCE", 0)
    worlds: list[World] = []

    def make(*rules: RuleSpec, **options: Any) -> World:
        worlds.append(World(*rules, **options))
        return worlds[-1]

    yield make
    for world in reversed(worlds):
        world.check()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
