# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the interop tests: gateways and upstreams that are surely gone when a test is over."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.interop.gateway import Gateway
from tests.interop.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> Iterator[None]:
    """Keep curl, requests and the others from sending loopback traffic to a proxy of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def make_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Gateway]]:
    """Make gateways, not yet started; each is stopped in the end and must then exit with 0."""
    with ExitStack() as stack:

        def make() -> Gateway:
            gateway = Gateway(tmp_path_factory.mktemp("gateway"))
            stack.callback(gateway.stop)
            return gateway

        yield make


@pytest.fixture
def gateway(make_gateway: Callable[[], Gateway]) -> Gateway:
    """Make one gateway, not yet started."""
    return make_gateway()


@pytest.fixture
def make_upstream() -> Iterator[Callable[..., Upstream]]:
    """Start upstreams; the arguments are those of `Upstream`. Stopped before the gateways if requested after them."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Upstream(*args, **kwargs))
