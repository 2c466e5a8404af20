# SPDX-License-Identifier: Apache-2.0
"""Load from client hosts, as tests steer it: start, look at what happened since the last look, finish."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.e2e.net import Host, Program

__all__ = ["ALL_USERS", "Client", "Load", "Report"]

ALL_USERS = "keep-GET=4,keep-POST=4,turn-GET=4,turn-POST=4,open-GET=4,open-POST=4"
_LOOK_S = 0.1


@dataclass(kw_only=True)
class Report:
    """What happened in some time, of all clients together."""

    requests: int = 0
    connections: int = 0
    closed: int = 0
    pods: dict[str, int] = field(default_factory=dict)
    peers: dict[str, int] = field(default_factory=dict)
    fresh: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    max_ms: float = 0.0

    def add(self, said: dict[str, Any]) -> None:
        """Add what one client said."""
        self.requests += said["requests"]
        self.connections += said["connections"]
        self.closed += said["closed"]
        self.failures += said["failures"]
        for mine, its in ((self.pods, said["pods"]), (self.peers, said["peers"]), (self.fresh, said["fresh"])):
            for key, count in its.items():
                mine[key] = mine.get(key, 0) + count
        if said["p99_ms"] is not None:
            self.p99_ms.append(said["p99_ms"])
            self.max_ms = max(self.max_ms, said["max_ms"])

    def merge(self, other: Report) -> None:
        """Add another report."""
        self.add(
            {
                "requests": other.requests,
                "connections": other.connections,
                "closed": other.closed,
                "failures": other.failures,
                "pods": other.pods,
                "peers": other.peers,
                "fresh": other.fresh,
                "p99_ms": max(other.p99_ms, default=None),
                "max_ms": other.max_ms,
            }
        )

    def figures(self) -> str:
        """Return the numbers in one line."""
        return (
            f"{self.requests} requests, {len(self.failures)} failed, {self.connections} connections, "
            f"{self.closed} closed by the other side, worst p99 {max(self.p99_ms, default=0):.0f} ms, max {self.max_ms:.0f} ms"
        )

    def says(self) -> str:
        """Return the report in one line."""
        return f"{self.figures()}, answered by {self.pods} for {self.peers}"


class Client:
    """One client process."""

    def __init__(self, host: Host, program: Program) -> None:
        self.host = host
        self._program = program

    def __repr__(self) -> str:
        return f"<Client {self.host.name} {self._program}>"

    async def look(self) -> dict[str, Any]:
        """Return what happened since the last look."""
        line = await self._program.ask("")
        assert line, f"the client ended by itself\n{self._program.log_tail()}"
        return _object(line)

    async def finish(self) -> dict[str, Any]:
        """Stop it and return what happened since the last look."""
        output = await self._program.finish()
        assert self._program.returncode == 0, self._program.log_tail()
        return _object(output)


def _object(text: str) -> dict[str, Any]:
    said = orjson.loads(text)
    assert isinstance(said, dict)
    return said


class Load:
    """Constant load from one client process per host. Use as an asynchronous context manager: leaving it stops the clients.

    Attributes:
        total: everything that happened, once left.
    """

    def __init__(
        self, hosts: Sequence[Host], url: str, *, logs: Path, host_header: str, users: str = ALL_USERS, rate: float = 5.0
    ) -> None:
        self._hosts = hosts
        self._command = (sys.executable, "-m", "tests.e2e.load", "--url", url, "--host", host_header, "--users", users)
        self._rate = rate
        self._logs = logs
        self._clients: list[Client] = []
        self.total = Report()

    def __repr__(self) -> str:
        return f"<Load {self._clients}>"

    async def __aenter__(self) -> Load:
        for host in self._hosts:
            log = self._logs / f"load-{host.name}.log"
            program = await host.start(*self._command, "--rate", str(self._rate), log=log, piped=True)
            self._clients.append(Client(host, program))
        return self

    async def __aexit__(self, *error: object) -> None:
        for said in await asyncio.gather(*(client.finish() for client in self._clients), return_exceptions=error[0] is not None):
            if isinstance(said, dict):
                self.total.add(said)

    async def look(self) -> Report:
        """Return what happened since the last look."""
        report = Report()
        for said in await asyncio.gather(*(client.look() for client in self._clients)):
            report.add(said)
        self.total.merge(report)
        return report

    async def requests(self, count: int, *, timeout_s: float = 60.0) -> Report:
        """Wait until that many more requests have been made, and return what happened meanwhile."""
        await self.look()
        return await self.until(lambda _report: False, at_least=count, timeout_s=timeout_s)

    async def until(
        self, condition: Callable[[Report], bool], *, at_least: int = 0, timeout_s: float = 60.0, what: str = "enough requests"
    ) -> Report:
        """Wait until what happened between two looks meets a condition, or until there were `at_least` requests."""
        gathered = Report()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    report = await self.look()
                    gathered.merge(report)
                    if condition(report) or (at_least and gathered.requests >= at_least):
                        return gathered
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise AssertionError(f"{what}: not within {timeout_s} s; {gathered.says()}") from error
