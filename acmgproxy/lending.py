# SPDX-License-Identifier: Apache-2.0
"""Who accepts for a worker that cannot: the others take over its sockets until it is back.

The kernel goes on giving each member of a socket group its share of new connections, whoever looks after it. A worker that died
once is replaced at once and its queue waits for that; but one in a crash loop is not started again for up to half a minute, and
one that hangs is given time. Meanwhile its sockets are lent: the others accept from them, too. Several processes may accept from
one socket, so nothing is lost when a socket is lent (what has queued up is taken) nor when it goes back (the owner accepts
already).

Level-triggered: this says who should have what, the slots send the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.slot_state import SlotState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from acmgproxy.slot import WorkerSlot
    from acmgproxy.slot_state import Lent
    from acmgproxy.sockets import Bind, SocketGroup

__all__ = ["lend"]


def lend(
    slots: Sequence[WorkerSlot], binds: Mapping[Bind, SocketGroup], stalled: Collection[int]
) -> dict[int, dict[Lent, SocketGroup]]:
    """Share the sockets of workers that are away among those that are up, each with one of them.

    Args:
        slots: all worker slots.
        binds: every socket there is.
        stalled: workers that are there but have been silent for a while.

    Returns:
        By worker, what it accepts from besides its own. Workers with nothing are left out.
    """
    away = [slot.index for slot in slots if slot.is_away or slot.index in stalled]
    if not away:
        return {}
    helpers = [slot.index for slot in slots if slot.state is SlotState.UP and slot.index not in away]
    lent: dict[int, dict[Lent, SocketGroup]] = {}
    if helpers:
        for number, (bind, group) in enumerate(sorted(binds.items(), key=lambda item: item[0])):
            for owner in away:
                helper = helpers[(number + owner) % len(helpers)]
                lent.setdefault(helper, {})[bind, owner] = group
    return lent
