# SPDX-License-Identifier: Apache-2.0
"""End-to-end tests run where `python -m tests.e2e` puts them, and only there: elsewhere they are not collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.__main__ import is_isolated
from tests.e2e.cluster import PROXY_DELAY_S, Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make room for figures."""
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how much load each test had, and how it went."""
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("load")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests out in a run that has no network of its own."""
    if is_isolated():
        return
    chosen = [item for item in items if item.get_closest_marker("e2e") is not None]
    if chosen:
        config.hook.pytest_deselected(items=chosen)
        items[:] = [item for item in items if item.get_closest_marker("e2e") is None]


@pytest.fixture
async def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Return a cluster with two client hosts and nothing else in it; a parameter is kube-proxy's delay in seconds."""
    async with Cluster(tmp_path, proxy_delay_s=getattr(request, "param", PROXY_DELAY_S)) as cluster:
        yield cluster
        request.config.stash[FIGURES] += [f"{request.node.name}: {line}" for line in cluster.figures()]
