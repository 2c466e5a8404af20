# SPDX-License-Identifier: Apache-2.0
"""Changes at the API server at a steady pace, and how long each takes until it has an effect on traffic.

Every fifth change moves a probe's only endpoint from one upstream to the other. A connection of its own asks that Service over
and over; the change has its effect when an answer comes from the new upstream. The time counts from before the change is sent to
the API server until that answer is here, so it holds the API server's own part, the gateway's, one request and the pause between
two: the truth is a little less. The other changes go to Services that nobody calls.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import aiohttp
import orjson

from bench.cluster import endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.cluster import Cluster, Member
    from bench.net import Address

__all__ = ["Churn", "ChurnError", "Effects", "Probe"]

PROBED_OF = 5
"""One change in so many moves a probe."""

PAUSE_S = 0.001
"""Between an answer and the next question of a probe."""

_LATE_S = 10.0


class ChurnError(RuntimeError):
    """A change was refused, a probe's request failed, or a change had no effect."""


@dataclass(slots=True)
class Effects:
    """What came of the changes.

    Attributes:
        seconds: of each probed change until its effect.
        changes: how many there were of all.
        skipped: turns of a probe whose last change had no effect yet.
        requests: that the probes sent.
    """

    seconds: list[float] = field(default_factory=list)
    changes: int = 0
    skipped: int = 0
    requests: int = 0

    def percentile_ms(self, percent: float) -> float:
        """Return the time that `percent` of the changes did not exceed."""
        ordered = sorted(self.seconds) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000


class Probe(asyncio.Protocol):
    """Asks one Service over and over which upstream answers; the answer is the upstream's address."""

    def __init__(self, member: Member, upstreams: Sequence[str], effects: Effects) -> None:
        assert member.upstream is not None
        self.member = member
        self._upstreams = upstreams
        self._now_at = list(upstreams).index(member.upstream[0])
        self._effects = effects
        self._request = f"GET / HTTP/1.1\r\nHost: {member.name}.{member.namespace}\r\n\r\n".encode()
        self._answer = b""
        self._changed_at: float | None = None
        self._transport: asyncio.Transport | None = None
        self.failure: ChurnError | None = None

    def __repr__(self) -> str:
        return f"<Probe {self.member.name} at {self.wanted}{', waiting' if self.is_waiting else ''}>"

    @property
    def is_waiting(self) -> bool:
        """Tell whether the last change has had no effect yet."""
        return self._changed_at is not None

    @property
    def wanted(self) -> str:
        """The upstream that is to answer."""
        return self._upstreams[self._now_at]

    def move(self) -> str:
        """Begin to wait for the other upstream and return its address."""
        self._now_at = 1 - self._now_at
        self._changed_at = time.monotonic()
        return self.wanted

    def stop(self) -> None:
        """Ask no more."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Look who answered once the answer is whole."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or not body.endswith(b";"):
            if not b"HTTP/1.1 200".startswith(head[:12]):
                self._fail(f"was answered {self._answer[:200]!r}")
            return
        self._answer = b""
        if body[:-1].decode() == self.wanted and self._changed_at is not None:
            self._effects.seconds.append(time.monotonic() - self._changed_at)
            self._changed_at = None
        elif body[:-1].decode() != self.wanted and self._changed_at is None:
            self._fail(f"was answered by {body!r} again after {self.wanted} had answered")
        elif self._changed_at is not None and time.monotonic() - self._changed_at > _LATE_S:
            self._fail(f"is not answered by {self.wanted} after {_LATE_S} s")
        asyncio.get_running_loop().call_later(PAUSE_S, self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that nobody stopped has failed."""
        if self._transport is not None:
            self._fail(f"lost its connection: {exc}")

    def _ask(self) -> None:
        if self._transport is not None:
            self._effects.requests += 1
            self._transport.write(self._request)

    def _fail(self, why: str) -> None:
        self.failure = self.failure or ChurnError(f"{self.member.name} {why}")
        self.stop()


def _itself(probe: Probe) -> Probe:
    return probe


class Churn:
    """Probes, and the changes.

    Args:
        cluster: whose Services change.
        api: address of the API server.
        gateway: where the gateway listens.
        upstreams: the two hosts between which probes move.
    """

    def __init__(self, cluster: Cluster, *, api: str, gateway: str, upstreams: tuple[Address, Address]) -> None:
        self.effects = Effects()
        self._cluster = cluster
        self._api = api
        self._gateway = gateway
        self._probes = [Probe(member, [host for host, _ in upstreams], self.effects) for member in cluster.probes]
        self._random = random.Random(5)

    def __repr__(self) -> str:
        return f"<Churn of {self._cluster!r}: {self.effects.changes} changes>"

    async def start(self) -> None:
        """Let the probes ask."""
        loop = asyncio.get_running_loop()
        for probe in self._probes:
            await loop.create_connection(partial(_itself, probe), self._gateway, probe.member.gateway_port)

    async def run(self, *, rate: int, seconds: float) -> None:
        """Make changes at a rate for a time; a rate of 0 only waits.

        Raises:
            ChurnError: something went wrong.
        """
        end = time.monotonic() + seconds
        if not rate:
            await asyncio.sleep(seconds)
        else:
            async with aiohttp.ClientSession(self._api) as session, asyncio.TaskGroup() as group:
                await self._pace(session, group, rate, end)
        await self._settle()

    async def _pace(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, rate: int, end: float) -> None:
        start = time.monotonic()
        turn = 0
        while (now := time.monotonic()) < end:
            due = start + turn / rate
            if due > now:
                await asyncio.sleep(due - now)
            self._check()
            if turn % PROBED_OF:
                member = self._random.choice(self._cluster.others)
                group.create_task(self._change(session, member, self._shuffled(member)))
            else:
                probe = self._probes[turn // PROBED_OF % len(self._probes)]
                if probe.is_waiting:
                    self.effects.skipped += 1
                else:
                    address = probe.move()
                    group.create_task(self._change(session, probe.member, [endpoint(probe.member, 0, address=address)]))
            turn += 1

    def _shuffled(self, member: Member) -> list[dict[str, object]]:
        """Let one endpoint be ready or not, as a rolling update does."""
        changed = self._random.randrange(member.endpoints)
        ready = self._random.random() < 0.5
        return [endpoint(member, index, ready=index != changed or ready) for index in range(member.endpoints)]

    async def _change(self, session: aiohttp.ClientSession, member: Member, endpoints: list[dict[str, object]]) -> None:
        body = orjson.dumps({"endpoints": endpoints})
        headers = {"Content-Type": "application/merge-patch+json"}
        async with session.patch(member.slice_path, data=body, headers=headers) as answer:
            if answer.status != 200:
                raise ChurnError(f"{member.slice_path} was answered {answer.status}: {await answer.text()}")
        self.effects.changes += 1

    async def _settle(self) -> None:
        """Wait until every change has had its effect."""
        deadline = time.monotonic() + _LATE_S
        while any(probe.is_waiting for probe in self._probes) and time.monotonic() < deadline:
            self._check()
            await asyncio.sleep(0.01)
        self._check()
        if waiting := [probe for probe in self._probes if probe.is_waiting]:
            raise ChurnError(f"changes had no effect within {_LATE_S} s: {waiting}")

    def _check(self) -> None:
        for probe in self._probes:
            if probe.failure is not None:
                raise probe.failure

    def stop(self) -> None:
        """Let the probes ask no more."""
        for probe in self._probes:
            probe.stop()
