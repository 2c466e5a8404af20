# SPDX-License-Identifier: Apache-2.0
"""Tunnels and pools in every order of events that Hypothesis thinks of (connections: see test_machine)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from acmgproxy.io.deadlines import TICK_S
from tests.protocol.test_tunnel import open_tunnel
from tests.protocol.world import Client, World, answer, request

SIDES = st.sampled_from(["client", "endpoint"])
PIECES = st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"x" * 70_000, b"y" * 200_000]))


class TunnelMachine(RuleBasedStateMachine):
    """Whatever one side has sent comes out at the other, in order, as long as nobody breaks off; and all ends are passed on."""

    @initialize()
    def start(self) -> None:
        self.world = World()
        client, upstream = open_tunnel(self.world)
        self.ends = {"client": client.transport, "endpoint": upstream}
        self.sent = {"client": b"", "endpoint": b""}
        self.got = {"client": b"", "endpoint": b""}
        self.ended: set[str] = set()
        self.is_broken = False

    @staticmethod
    def _other(side: str) -> str:
        return "endpoint" if side == "client" else "client"

    def _may_send(self, side: str) -> bool:
        return side not in self.ended and not self.ends[side].closing and not self.is_broken

    @rule(side=SIDES, data=PIECES)
    def send(self, side: str, data: bytes) -> None:
        if self._may_send(side):
            self.sent[side] += data
            self.ends[side].feed(data)

    @rule(side=SIDES)
    def end(self, side: str) -> None:
        if self._may_send(side):
            self.ended.add(side)
            self.ends[side].feed_eof()

    @rule(side=SIDES)
    def stop_reading(self, side: str) -> None:
        self.ends[side].clog()

    @rule(side=SIDES)
    def read_again(self, side: str) -> None:
        self.ends[side].unclog()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: not self.is_broken)
    @rule(side=SIDES)
    def break_off(self, side: str) -> None:
        self.is_broken = True
        self.ends[side].reset()

    @invariant()
    def what_was_sent_comes_out(self) -> None:
        for side, end in self.ends.items():
            self.got[side] += end.take()
            assert self.sent[self._other(side)].startswith(self.got[side])
        if self.is_broken or any(end.clogged or end.aborted for end in self.ends.values()):
            return
        for side, end in self.ends.items():
            if not end.arriving:
                assert self.got[self._other(side)] == self.sent[side]
            if side in self.ended:
                assert self.ends[self._other(side)].ended

    @invariant()
    def it_is_over_when_both_have_ended(self) -> None:
        if len(self.ended) == 2 and not any(end.clogged or end.arriving for end in self.ends.values()):
            assert not self.world.plane.tunnels

    def teardown(self) -> None:
        for end in self.ends.values():
            end.unclog()
            end.reset()
        self.world.check()


class PoolMachine(RuleBasedStateMachine):
    """Idle connections are open, unpaused, ordered by age and never older than allowed; busy ones are not among them."""

    @initialize(limit=st.sampled_from([0, 2, 3]))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.world = World(cluster_options={"max_requests_per_connection": limit})
        self.clients: list[Client] = []
        self.open: list[tuple[Client, int]] = []

    @rule(method=st.sampled_from(["GET", "POST"]))
    def ask(self, method: str) -> None:
        idle = [
            client for client in self.clients if client not in {busy for busy, _ in self.open} and not client.transport.closing
        ]
        client = idle[0] if idle else self.world.client()
        if not idle:
            self.clients.append(client)
        client.send(request(method))
        for index, transport in enumerate(self.world.accepted):
            if not transport.lost and transport.take():
                self.open.append((client, index))

    @precondition(lambda self: self.open)
    @rule(position=st.integers(0, 7), close=st.booleans())
    def answer(self, position: int, close: bool) -> None:
        client, index = self.open.pop(position % len(self.open))
        self.world.accepted[index].feed(answer("200 OK", *(["Connection: close"] if close else [])))
        assert client.take().startswith(b"HTTP/1.1 200")

    @rule(position=st.integers(0, 7), what=st.sampled_from(["end", "byte", "reset"]))
    def spoil(self, position: int, what: str) -> None:
        busy = {index for _, index in self.open}
        idle = [one for index, one in enumerate(self.world.accepted) if index not in busy and not one.closing and not one.lost]
        if idle:
            chosen = idle[position % len(idle)]
            {"end": chosen.feed_eof, "byte": lambda: chosen.feed(b"H"), "reset": chosen.reset}[what]()
            assert chosen.closing

    @rule(seconds=st.sampled_from([0.01, 1.0, 3.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    @invariant()
    def idle_connections_are_in_order(self) -> None:
        pool = self.world.cluster.endpoints[0].pool
        if pool is None:
            return
        now = self.world.plane.clock()
        assert set(pool.idle) <= pool.open
        assert [one.idle_since for one in pool.idle] == sorted(one.idle_since for one in pool.idle)
        for one in pool.idle:
            assert one.exchange is None
            assert not one.transport.is_closing()
            assert not one.read_paused
            assert now - one.idle_since <= pool.idle_timeout_s + 2 * TICK_S
            assert not self.limit or one.requests < self.limit
        self.world.check_balance()

    def teardown(self) -> None:
        self.world.check()


TestTunnel = TunnelMachine.TestCase
TestTunnel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
