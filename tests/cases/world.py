# SPDX-License-Identifier: Apache-2.0
"""A world: pods, callers and a gateway on addresses of their own, and how one case is tried in it.

A case is one file of objects: the usual world, what its setup changes, and its resources. When the gateway refuses an object, the
case is applied once more from a clean state, so that no last good version of an earlier case can be in force.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tests.cases.certificates import Certificates
from tests.cases.checks import Group, check
from tests.cases.client import Connection, Result
from tests.cases.gateway import Gateway, GatewayError
from tests.cases.pods import Pods, Script
from tests.cases.scene import PORTS, Addresses, Scene, marker, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cases.model import Batch, Case, Expect

__all__ = ["NotPermittedError", "Trial", "World", "WorldError"]

_LOCK_PORT = 47080
"""Listened on by whoever uses a block of addresses, so that no two worlds take the same."""

_NEEDS_PORT_80 = (
    "Services listen on port 80, as in a cluster: this needs root, or once: sysctl net.ipv4.ip_unprivileged_port_start=80"
)

_MIRRORS_TIMEOUT_S = 3.0
_QUIET_S = 0.15
"""Copies may come after the answer. When none is missing, one too many would come within this time."""


class WorldError(Exception):
    """This machine cannot be made into a world."""


class NotPermittedError(WorldError):
    """This user may not listen on the ports of a world."""


class Trial(msgspec.Struct, kw_only=True):
    """What came of trying a case: complaints, remarks, and the results per request."""

    complaints: list[str] = []
    remarks: list[str] = []
    results: list[list[Result]] = []


class World:
    """One world; use it as an asynchronous context manager.

    Args:
        directory: of its own, for configuration and keys.

    Raises:
        WorldError: it cannot be made here.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._lock = _take_block()
        self._addresses = Addresses(int(self._lock.getsockname()[0].split(".")[1]))
        self._certificates = Certificates(directory)
        self._pods = Pods()
        self._gateway = self._new_gateway()
        self._ports: dict[str, str] = {}
        self._generation = 0
        self._marker = ""

    def __repr__(self) -> str:
        return f"<World 127.{self._addresses.block}.0.0/16 {self._gateway}>"

    async def __aenter__(self) -> Self:
        return self

    async def start(self) -> None:
        """Start the gateway on the usual world.

        Raises:
            WorldError: it does not start.
        """
        try:
            await self._apply(Scene(self._addresses), None)
        except GatewayError as error:
            raise WorldError(f"the gateway does not start: {error}") from error

    async def __aexit__(self, *exc_info: object) -> None:
        await self._gateway.stop()
        await self._pods.close()
        self._lock.close()

    async def reset(self) -> None:
        """End the gateway; the next case gets a new one."""
        await self._gateway.stop()
        self._gateway = self._new_gateway()

    async def try_case(self, case: Case) -> Trial:
        """Apply a case, send its requests and check the answers.

        Raises:
            GatewayError: the gateway does not take part.
            KeyError: the case names a pod that is not there.
        """
        scene = Scene(self._addresses, case)
        script = Script(scene, case.setup.upstream_response)
        await self._pods.play(scene, script, self._certificates.contexts(scene, case.setup.tls))
        ports = await self._pods.play_on_localhost(scene, case.setup.localhost)
        self._ports = {f"localhost_port:{name}": str(port) for name, port in ports.items()}
        config = await self._apply(scene, case)
        if config["problems"]:
            await self._apply(Scene(self._addresses), None)
            config = await self._apply(scene, case)
        trial = Trial(remarks=_remarks(config), complaints=_validation(case, config))
        whole = Group(scene=scene)
        for number, (batch, expect) in enumerate(zip(case.requests, case.expected(), strict=True), 1):
            group = await self._send(batch, expect, scene, script)
            await _wait_mirrors(expect, group, script, len(script.calls) - len(group.calls))
            trial.results.append(group.results)
            trial.complaints += [f"request {number} ({_describe(batch)}): {text}" for text in check(expect, group)]
            if not expect.warm_up:
                whole.results += group.results
                whole.callers += group.callers
        if case.expect.each is not None:
            await _wait_mirrors(case.expect, whole, script, 0)
            whole.calls = list(script.calls)
            trial.complaints += [f"whole case: {text}" for text in check(case.expect, whole)]
        return trial

    # --- configuration ----------------------------------------------------------------------------------------------------

    def _new_gateway(self) -> Gateway:
        return Gateway(self._directory, f"127.{self._addresses.block}.0.1")

    async def _apply(self, scene: Scene, case: Case | None) -> dict[str, Any]:
        """Write a configuration and wait until it serves; start the gateway if it does not run."""
        self._generation += 1
        before, self._marker = self._marker, self._addresses.marker(self._generation)
        objects = scene.manifests(self._generation)
        if case is not None:
            own = [_filled(resource, self._values(scene)) for resource in case.resources]
            taken = {_name(resource) for resource in own}
            objects = [*(thing for thing in objects if _name(thing) not in taken), *own]
        self._gateway.write([*objects, marker(self._marker, self._generation)])
        if not self._gateway.is_running:
            await self._gateway.start()
        return await self._gateway.wait_live(present=self._marker, absent=before)

    def _values(self, scene: Scene) -> dict[str, str]:
        values = {f"pod_ip:{pod.name}": pod.address for pod in scene.pods.values()}
        values |= {f"cluster_ip:{service.name}": service.address for service in scene.services.values()}
        return values | self._ports | {"ca_file": str(self._certificates.path)}

    # --- requests ---------------------------------------------------------------------------------------------------------

    async def _send(self, batch: Batch, expect: Expect, scene: Scene, script: Script) -> Group:
        """Send a request as often as it is to be sent."""
        caller = self._addresses.caller(batch)
        destination, host = self._destination(batch, scene)
        headers = _header_lines(batch, host)
        body = text_of(batch.body).encode() if batch.body is not None else None
        first_call = len(script.calls)
        group = Group(scene=scene)
        kept = Connection(caller, destination) if batch.sequential else None
        left = iter(range(batch.repeat))

        async def worker() -> None:
            for _ in left:
                connection = kept or Connection(caller, destination)
                calls_before = len(script.calls)
                result = await connection.send(batch.method, batch.path, headers, body)
                if kept is None:
                    await connection.close()
                result.call = next((call for call in reversed(script.calls) if call.number == result.call_number), None)
                alone = script.calls[calls_before:] if batch.concurrency == 1 else []
                result.attempt = result.call or (alone[-1] if alone else None)
                group.results.append(result)
                group.callers.append(caller)

        try:
            await asyncio.gather(*(worker() for _ in range(batch.concurrency)))
        finally:
            if kept is not None:
                await kept.close()
        group.calls = script.calls[first_call:]
        await self._note_flags(group.results, is_needed=_needs_flags(expect))
        return group

    async def _note_flags(self, results: list[Result], *, is_needed: bool) -> None:
        seen: dict[str, int] = {}
        for result in results:
            if result.connection and not result.error:
                number = seen.get(result.connection, 0)
                seen[result.connection] = number + 1
                flags = await self._gateway.flags(result.connection, number + 1 if is_needed else 0)
                result.flag = flags[number] if number < len(flags) else None

    def _destination(self, batch: Batch, scene: Scene) -> tuple[tuple[str, int], str]:
        """Return where a request goes, and its Host."""
        if batch.dst_pod is not None:
            pod = scene.pod_named(batch.dst_pod)
            if pod is None:
                raise KeyError(f"dst_pod names {batch.dst_pod}, which is not there")
            return (pod.address, PORTS.get(batch.port, batch.port)), batch.host or pod.address
        if batch.dst_service is not None:
            service = scene.service_named(batch.dst_service)
            if service is None or not service.address:
                raise KeyError(f"dst_service names {batch.dst_service}, which has no ClusterIP")
            return (service.address, batch.port), batch.host or service.name
        host = _filled(batch.host or "", self._values(scene))
        service = scene.service_of(host, batch.from_namespace)
        if service is not None:
            return (service.address, batch.port), host
        return self._gateway.shared, host if batch.port == 80 or ":" in host else f"{host}:{batch.port}"


def _take_block() -> socket.socket:
    """Find a block of addresses that nobody uses, and return the socket that says so."""
    blocks = list(range(64, 250))
    secrets.SystemRandom().shuffle(blocks)
    for block in blocks:
        lock, probe = socket.socket(), socket.socket()
        with probe, suppress(OSError):
            lock.bind((f"127.{block}.0.1", _LOCK_PORT))
            lock.listen()
            try:
                probe.bind((f"127.{block}.1.1", 80))
            except PermissionError:
                lock.close()
                raise NotPermittedError(_NEEDS_PORT_80) from None
            return lock
        lock.close()
    raise WorldError("no block 127.x.0.0/16 is free")


def _remarks(config: dict[str, Any]) -> list[str]:
    refused = [f"refused: {' '.join(filter(None, _problem(problem)))}" for problem in config["problems"]]
    found = [
        f"{entry['code']} {entry['kind']} {entry['namespace']}/{entry['name']}: {entry['message']}"
        for entry in config["diagnostics"]
    ]
    return refused + found


def _problem(problem: dict[str, Any]) -> tuple[str, ...]:
    who = f"{problem.get('namespace', '')}/{problem.get('name', '')}".strip("/")
    return problem.get("kind", ""), who, problem.get("field", ""), problem["reason"]


def _validation(case: Case, config: dict[str, Any]) -> list[str]:
    """Check that an object of a case is refused, if one should be."""
    if case.expect.validation is None:
        return []
    own = {_name(resource)[1:] for resource in case.resources}
    refused = {(entry.get("kind"), entry.get("namespace"), entry.get("name")) for entry in config["problems"]}
    return [] if own & refused else [f"validation: expected an object to be refused, problems: {config['problems']}"]


async def _wait_mirrors(expect: Expect, group: Group, script: Script, first_call: int) -> None:
    """Wait for copies that are still under way, and let one too many show itself."""
    if expect.mirrored is None and expect.mirrored_percent is None and expect.mirrored_request is None:
        return

    def is_complete() -> bool:
        group.calls = script.calls[first_call:]
        wanted = expect.mirrored or ({} if expect.mirrored_percent is not None else {"": 1})
        return all(len(group.mirrored(name)) >= number for name, number in wanted.items())

    with suppress(TimeoutError):
        async with asyncio.timeout(_MIRRORS_TIMEOUT_S), script.changed:
            await script.changed.wait_for(is_complete)
    quiet_from, calls = time.monotonic(), len(script.calls)
    while time.monotonic() < quiet_from + _QUIET_S:
        await asyncio.sleep(_QUIET_S / 10)
        if len(script.calls) != calls:
            quiet_from, calls = time.monotonic(), len(script.calls)
    group.calls = script.calls[first_call:]


def _needs_flags(expect: Expect) -> bool:
    inner = (*expect.on_status.values(), *expect.per_upstream.values())
    return expect.flag is not None or any(_needs_flags(entry) for entry in inner)


def _header_lines(batch: Batch, host: str) -> list[tuple[str, str]]:
    lines = [("host", host)] if "host" not in {name.lower() for name in batch.headers} else []
    for name, value in batch.headers.items():
        entries = value if isinstance(value, list) else [value]
        lines += [(name, text_of(entry) if entry is not None else "") for entry in entries]
    return lines


def _describe(batch: Batch) -> str:
    to = batch.dst_service or batch.dst_pod
    parts = [batch.method, batch.path, f"Host {batch.host}", f"to {to}" if to else "", f"from {batch.from_namespace}"]
    return " ".join(filter(None, [*parts, f"x{batch.repeat}" if batch.repeat > 1 else ""]))


def _name(resource: dict[str, Any]) -> tuple[str, str, str, str]:
    meta = resource.get("metadata", {})
    group = str(resource.get("apiVersion", "")).rpartition("/")[0]
    return group, str(resource.get("kind")), meta.get("namespace", "default"), str(meta.get("name"))


def _filled(value: Any, values: dict[str, str]) -> Any:
    """Fill in addresses and paths that only the run knows, written `${name}`."""
    if isinstance(value, dict):
        return {key: _filled(entry, values) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, values) for entry in value]
    if isinstance(value, str) and "${" in value:
        for name, text in values.items():
            value = value.replace(f"${{{name}}}", text)
        return int(value) if value.isdigit() else value
    return value
