# SPDX-License-Identifier: Apache-2.0
"""Circuit breakers: how much of a cluster one worker may use at a time.

Limits are meant for the gateway pod; each of its workers gets an equal part, rounded up and at least 1, since workers do not talk
to each other while they serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.specs import ClusterSpec

__all__ = ["Limits", "part_of"]


class Limits:
    """The part of one worker; 0 means no limit."""

    __slots__ = ("max_connections", "max_pending", "max_requests", "max_retries")

    def __init__(self, spec: ClusterSpec, workers: int) -> None:
        self.max_connections = part_of(spec.max_connections, workers)
        self.max_pending = part_of(spec.max_pending_requests, workers)
        self.max_requests = part_of(spec.max_requests, workers)
        self.max_retries = part_of(spec.max_retries, workers)

    def __repr__(self) -> str:
        return (
            f"Limits(connections={self.max_connections}, pending={self.max_pending}, "
            f"requests={self.max_requests}, retries={self.max_retries})"
        )

    def __bool__(self) -> bool:
        return bool(self.max_connections or self.max_pending or self.max_requests or self.max_retries)


def part_of(limit: int, workers: int) -> int:
    """Return one worker's part of a limit."""
    return -(-limit // workers)
