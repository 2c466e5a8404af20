# SPDX-License-Identifier: Apache-2.0
"""The one error a sans-IO part may raise for bad input."""

from __future__ import annotations

__all__ = ["HeadError"]


class HeadError(Exception):
    """A peer sent something that must not be treated as a message.

    Args:
        status: status code for the peer when it is a client (an upstream's fault becomes 502 whatever this says).
        reason: what is wrong, in the words of the RFC clause; safe to log and to send back.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def __repr__(self) -> str:
        return f"HeadError({self.status}, {self.reason!r})"
