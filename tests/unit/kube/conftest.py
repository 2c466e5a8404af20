# SPDX-License-Identifier: Apache-2.0
"""A server, and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kube import FakeApiServer
from tests.unit.kube.kit import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        yield server


@pytest.fixture
async def client(api: FakeApiServer) -> AsyncIterator[Client]:
    async with Client(api.url) as one:
        yield one
