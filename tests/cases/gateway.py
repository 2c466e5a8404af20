# SPDX-License-Identifier: Apache-2.0
"""The gateway as users run it: a process on a directory of YAML files, with its admin server and its access log.

Whether a configuration is live is asked, never assumed: every configuration has a marker, a Pod whose address `/config` shows
among the callers once the file was taken, and every worker must have acknowledged the version that has it. All objects of a case
are in one file that is replaced in one step, so they are taken together.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.cases.client import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Gateway", "GatewayError"]

_PROJECT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 20.0
_POLL_S = 0.005
_LINE_LIMIT = 1024 * 1024
_LOG_TAIL = 12


class GatewayError(Exception):
    """The gateway does not do what it must for any case to be tried."""


class Gateway:
    """One gateway process.

    Args:
        directory: of its own.
        address: a loopback address, for the admin server.

    Attributes:
        shared: address and port of its shared listener.
        log: the lines of its own log.
    """

    def __init__(self, directory: Path, address: str) -> None:
        self._config = directory / "config"
        self._address = address
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._requests: dict[str, list[str]] = defaultdict(list)
        self._admin = (address, 0)
        self.shared = ("127.0.0.1", 0)
        self.log: list[str] = []

    def __repr__(self) -> str:
        return f"<Gateway {self._config} admin={self._admin} running={self.is_running}>"

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    # --- life -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it on what was written so far and wait until it is ready."""
        self.shared = ("127.0.0.1", _free_port("127.0.0.1"))
        arguments = ["run", "--config", str(self._config), "--workers", "1", "--access-log", "-"]
        arguments += ["--set", "trusted_callers=127.0.0.0/8"]  # callers are pods of the mesh, whose word counts
        arguments += ["--admin", f"{self._address}:0", "--shared-port", str(self.shared[1])]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "acmgproxy",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            cwd=_PROJECT,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(self._process.stdout, self._take_request)),
            asyncio.create_task(self._read(self._process.stderr, self._take_log)),
        ]
        await self._wait(lambda: self._admin[1] or not self.is_running or not self._reading, "start")
        if not self._admin[1]:
            raise GatewayError(f"it ended instead of starting\n{self.log_tail()}")

    async def stop(self) -> None:
        """End it with SIGTERM, or SIGKILL if that does not help."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _DEADLINE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)

    # --- configuration ----------------------------------------------------------------------------------------------------

    def write(self, objects: list[dict[str, Any]]) -> None:
        """Replace the configuration, all objects at once."""
        self._config.mkdir(exist_ok=True)
        draft = self._config / ".objects"
        draft.write_text(yaml.dump_all(objects, Dumper=_Dumper), encoding="utf-8")
        draft.replace(self._config / "objects.yaml")

    async def wait_live(self, *, present: str, absent: str) -> dict[str, Any]:
        """Wait until a configuration with the marker `present` and without `absent` serves, and return what `/config` says."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            config = await self._get("/config")
            callers, version = config.get("callers", {}), config["version"]
            refused = {number: why for number, why in config["refused_by_workers"].items() if why}
            if refused:
                raise GatewayError(f"workers refused the configuration: {refused}")
            is_taken = present in callers and (not absent or absent not in callers)
            if is_taken and all(seen == version for seen in config["worker_versions"].values()):
                listeners: list[dict[str, Any]] = await self._get("/listeners")
                if all(listener["bound"] for listener in listeners):
                    return dict(config)
            if time.monotonic() > deadline:
                raise GatewayError(f"the configuration was not live within {_DEADLINE_S:g} s\n{self.log_tail()}")
            await asyncio.sleep(_POLL_S)

    async def _get(self, path: str) -> Any:
        connection = Connection(self._address, self._admin)
        try:
            answer = await connection.send("GET", path, [("host", "admin"), ("connection", "close")])
        finally:
            await connection.close()
        if answer.status != 200:
            raise GatewayError(f"admin server: {answer.error or answer.status} {answer.body}\n{self.log_tail()}")
        return json.loads(answer.body)

    # --- what it says -----------------------------------------------------------------------------------------------------

    async def flags(self, connection: str, count: int) -> list[str]:
        """Return the response flags of the first `count` requests that came over a connection, from the access log."""
        with suppress(GatewayError):
            await self._wait(lambda: len(self._requests[connection]) >= count, "access log", timeout_s=5.0)
        return self._requests[connection]

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return "".join(self.log[-_LOG_TAIL:])

    @property
    def _reading(self) -> bool:
        return not all(reader.done() for reader in self._readers)

    async def _wait(self, condition: Callable[[], object], what: str, *, timeout_s: float = _DEADLINE_S) -> None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise GatewayError(f"{what}: not within {timeout_s:g} s\n{self.log_tail()}") from None

    async def _read(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        async for line in stream:
            async with self._changed:
                take(line.decode("utf-8", "replace"))
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def _take_log(self, line: str) -> None:
        self.log.append(line)
        if line.startswith("{") and (event := json.loads(line)).get("event") == "ready":
            host, _, port = event["admin"].removeprefix("http://").rpartition(":")
            self._admin = (host, int(port))

    def _take_request(self, line: str) -> None:
        """Note a line of the access log (Istio's default text format) by the address the request came from."""
        head, _, tail = line.rpartition('" ')
        after_request = head.split('" ', 1)[-1].split(" ")
        fields = tail.split(" ")
        if len(fields) >= 4 and len(after_request) >= 2:
            self._requests[fields[3]].append(after_request[1])


class _Dumper(yaml.CSafeDumper):
    """Writes every value out: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True for everything."""
        return True


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
