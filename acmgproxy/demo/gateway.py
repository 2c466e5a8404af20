# SPDX-License-Identifier: Apache-2.0
"""The gateway's admin server, as the demo asks it: over HTTP, as any operator's tool would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Admin", "counter_total", "weights_of"]

RETRIES_METRIC = "acmg_upstream_retries_total"

_TIMEOUT_S = 5.0


class Admin:
    """A client of one gateway's admin server.

    Args:
        address: HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def is_ready(self) -> bool:
        """Whether the gateway serves a complete configuration."""
        try:
            async with self._session.get(f"{self._base}/ready") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def retries(self) -> int:
        """Return how many retries the gateway has made."""
        return int(counter_total(await self._get("/metrics"), RETRIES_METRIC))

    async def has_weights(self, weights: tuple[int, int]) -> bool:
        """Whether a route with these weights is live."""
        return weights in weights_of(await self._get("/config"))

    async def _get(self, path: str) -> str:
        async with self._session.get(f"{self._base}{path}") as response:
            response.raise_for_status()
            return await response.text()


def counter_total(metrics: str, name: str) -> float:
    """Add up the samples of one counter in Prometheus' text format, 0 when it has none."""
    return sum(
        sample.value for family in text_string_to_metric_families(metrics) for sample in family.samples if sample.name == name
    )


def weights_of(config: str) -> set[tuple[int, ...]]:
    """Collect the weights of every rule that splits traffic, from the gateway's configuration as JSON."""
    return {tuple(weights) for weights in _splits(orjson.loads(config)) if len(weights) > 1}


def _splits(config: dict[str, dict[str, dict[str, list[dict[str, dict[str, list[dict[str, int]]]]]]]]) -> Iterator[list[int]]:
    for rule_set in config.get("rule_sets", {}).values():
        for rule in rule_set.get("rules", []):
            yield [cluster.get("weight", 1) for cluster in rule["action"].get("clusters", [])]
