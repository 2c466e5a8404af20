# SPDX-License-Identifier: Apache-2.0
"""Tables for which peers are started anew: how large the routing table is, how many workers there are.

Whatever the size of the table, ten of its hosts, spread evenly, are asked for, and every request has a head of its own so that
nothing is recognised: what grows is the table alone, not the number of names in use.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bench import machine
from bench.load import HEADERS, Shape, burst
from bench.peers.envoy import Envoy
from bench.peers.gateway import TABLE_PATH, Gateway, table_host
from bench.peers.nginx import Nginx
from bench.suite.ground import Figures, Ground, closed_burst, warm_up
from bench.suite.table import Case, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from bench.peers import Peer, Running
    from bench.suite.plan import Plan

__all__ = ["table_hosts", "workers"]

_ASKED = 10
_HOSTS_CONNECTIONS = 16
_WORKERS_CONNECTIONS = 64
_WARM_UP_S = 0.2


def table_hosts(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """What the size of the routing table costs."""
    arms = [
        _Arm({"hosts": hosts}, peer, _hosts_case(hosts, plan))
        for hosts in plan.table_hosts
        for peer in (Gateway(hosts=hosts), Envoy(hosts=hosts))
    ]
    return _measure(ground, arms, plan.rounds, ground.site.cpus, step)


def workers(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """What a second worker brings: both have a CPU each, on a machine with two CPUs one of them that of the load."""
    shape = Shape(connections=_WORKERS_CONNECTIONS, headers=len(HEADERS))
    case = partial(closed_burst, shape=shape, seconds=plan.seconds)
    arms = [
        _Arm({"workers": number, "connections": shape.connections}, peer, case)
        for number in plan.workers
        for peer in (Gateway(workers=number), Nginx(workers=number), Envoy(workers=number))
    ]
    return _measure(ground, arms, plan.rounds, machine.proxy_cpus(ground.cpus, max(plan.workers)), step)


class _Arm:
    """A peer that is started for one row."""

    def __init__(self, labels: dict[str, int], peer: Peer, measure: Callable[[Running], Figures]) -> None:
        self.peer = peer
        self.case = Case(labels=labels, measure=measure)
        self.row = Row(peer=peer.name, labels=labels)


def _measure(ground: Ground, arms: list[_Arm], rounds: int, cpus: Collection[int], step: Callable[[str], None]) -> list[Row]:
    arms = [arm for arm in arms if ground.has(arm.peer)]
    with ExitStack() as stack:
        running: list[Running] = []
        for number, arm in enumerate(arms):
            step(f"starting {arm.peer.name}: {arm.case}")
            site = replace(ground.site_on(cpus, f"{arm.peer.name}-{number}-{'-'.join(arm.case.labels)}"), stack=stack)
            running.append(arm.peer.start(site))
            warm_up(running[-1])
        for number, at in _rounds(rounds, len(arms)):
            step(f"round {number} of {rounds}: {arms[at].case}: {arms[at].peer.name}")
            arms[at].row.add(arms[at].case.measure(running[at]))
    return [arm.row for arm in arms]


def _rounds(rounds: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the number of the round and of the arm; every other round goes backwards."""
    for number in range(1, rounds + 1):
        for at in range(count) if number % 2 else reversed(range(count)):
            yield number, at


def _hosts_case(hosts: int, plan: Plan) -> Callable[[Running], Figures]:
    asked = tuple(table_host(number * hosts // _ASKED) for number in range(_ASKED))
    shape = Shape(connections=_HOSTS_CONNECTIONS, headers=len(HEADERS), distinct=True, hosts=asked, path=TABLE_PATH)

    def measure(running: Running) -> Figures:
        burst(running.address, shape, seconds=_WARM_UP_S)  # another peer has just had the caches
        return closed_burst(running, shape, seconds=plan.seconds)

    return measure
