# SPDX-License-Identifier: Apache-2.0
"""Facts about the limits that ask for a new process, and about who stands in for whom. The rest: test_supervisor.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from acmgproxy.lending import lend
from acmgproxy.messages import Heartbeat
from acmgproxy.recycling import MIN_LIFE_S, due_for_recycling
from acmgproxy.settings import ProxySettings
from acmgproxy.slot_state import SlotState
from acmgproxy.sockets import Bind, SocketGroup

_LIMITS = ProxySettings(recycle_after_requests=10, recycle_above_memory_bytes=1000)


@pytest.mark.parametrize(
    ("settings", "requests", "rss_bytes", "age_s", "reason"),
    [
        (ProxySettings(), 10**9, 10**12, 10**6, ""),
        (_LIMITS, 9, 1000, MIN_LIFE_S, ""),
        (_LIMITS, 10, 0, 0.0, "10 requests"),
        (_LIMITS, 0, 1001, MIN_LIFE_S, "1001 bytes of memory"),
        (_LIMITS, 0, 1001, MIN_LIFE_S - 1, ""),
    ],
)
def test_limits_ask_for_a_new_process(settings: ProxySettings, requests: int, rss_bytes: int, age_s: float, reason: str) -> None:
    slot: Any = SimpleNamespace(heartbeat=Heartbeat(0.0, 0.0, rss_bytes, 0), age_s=age_s)
    assert due_for_recycling(slot, settings, requests) == reason


def test_before_its_first_heartbeat_a_worker_has_no_memory() -> None:
    slot: Any = SimpleNamespace(heartbeat=None, age_s=MIN_LIFE_S)
    assert due_for_recycling(slot, _LIMITS, 0) == ""


def _slots(*are_away: bool) -> Any:
    states = {True: SlotState.WAITING, False: SlotState.UP}
    return [SimpleNamespace(index=index, is_away=away, state=states[away]) for index, away in enumerate(are_away)]


def test_each_socket_of_those_away_is_lent_to_one_that_is_up() -> None:
    group = SocketGroup("127.0.0.1", 80, ())
    binds = {Bind(name, "127.0.0.1", 80): group for name in "abcd"}
    lent = lend(_slots(True, False, False, False), binds, stalled={3})
    assert sorted(lent) == [1, 2]
    owners = [(bind.name, owner) for sockets in lent.values() for bind, owner in sockets]
    assert sorted(owners) == [(name, owner) for name in "abcd" for owner in (0, 3)]
    assert all(len(sockets) == 4 for sockets in lent.values()), "evenly"
    assert lend(_slots(False, False), binds, stalled=()) == {}
    assert lend(_slots(True, True), binds, stalled=()) == {}
