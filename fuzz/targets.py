# SPDX-License-Identifier: Apache-2.0
"""The fuzz targets by name, and where their crashes are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fuzz import exchange, request_body, request_head, response_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["REGRESSIONS", "TARGETS", "Target"]

REGRESSIONS = Path(__file__).parent / "regressions"
"""One directory per target; a crash is written there, stays when it is mended, and is tried by the unit tests from then on."""


class Target(NamedTuple):
    """What is fuzzed: `check` fails on an input that breaks the invariant, `seeds` are where the search begins."""

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]


TARGETS = {
    "request_head": Target(request_head.check, request_head.SEEDS),
    "request_body": Target(request_body.check, request_body.SEEDS),
    "response_head": Target(response_head.check, response_head.SEEDS),
    "exchange": Target(exchange.check, exchange.SEEDS),
}
