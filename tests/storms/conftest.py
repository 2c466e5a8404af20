# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the storms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.cluster import Cluster
from tests.interop.conftest import gateway, make_gateway
from tests.storms.pods import Pods
from tests.storms.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.interop.gateway import Gateway

__all__ = ["gateway", "make_gateway"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start an API server."""
    with Cluster(token="first") as cluster:
        yield cluster


@pytest.fixture
def pods() -> Iterator[Pods]:
    """Start servers at all loopback addresses."""
    with Pods() as pods:
        yield pods


@pytest.fixture
def site(gateway: Gateway, cluster: Cluster, pods: Pods, tmp_path: Path) -> Site:
    """Put a site together, its gateway not yet started."""
    return Site(gateway, cluster, pods, tmp_path)
