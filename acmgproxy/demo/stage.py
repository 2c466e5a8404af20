# SPDX-License-Identifier: Apache-2.0
"""Everything the demo runs on: the sample's copy, its four servers and a gateway, up and ready."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from acmgproxy.demo.gateway import Admin
from acmgproxy.demo.processes import Child, Children, wait_until
from acmgproxy.demo.sample import Sample, Server, claim_place, write_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["HOST", "Stage", "open_stage"]

START_TIMEOUT_S = 30.0
"""Patience for a process to start, on a slow and busy machine too."""

HOST = "helloworld:5000"
"""The name by which a pod would call the Service."""

WORKERS = 2


@dataclass(slots=True, kw_only=True)
class Stage:
    """What is up. Servers are known by their instance."""

    sample: Sample
    children: Children
    gateway: Child
    admin: Admin
    servers: dict[str, Child] = field(default_factory=dict)

    async def start_server(self, server: Server) -> None:
        """Start a server (again) and wait until it answers."""
        child = self.servers[server.instance] = await _launch_server(self.children, server)
        await _wait_server(child, server)

    async def kill_server(self, server: Server) -> None:
        """End a server without warning."""
        await self.servers[server.instance].kill()


@contextlib.asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Start everything, wait until it is ready, and stop everything when the block ends.

    Raises:
        SampleError: no free addresses, or no sample.
        ProcessError: a process did not start.
    """
    with claim_place() as place, tempfile.TemporaryDirectory(prefix="acmgproxy-demo-") as temporary:
        sample = write_sample(Path(temporary, "config"), place)
        async with Children(Path(temporary)) as children, Admin(sample.admin) as admin:
            servers = {server.instance: await _launch_server(children, server) for server in sample.servers}
            gateway = await _launch_gateway(children, sample)
            for server in sample.servers:
                await _wait_server(servers[server.instance], server)
            await wait_until(admin.is_ready, child=gateway, what="ready", timeout_s=START_TIMEOUT_S)
            yield Stage(sample=sample, children=children, gateway=gateway, admin=admin, servers=servers)


async def _launch_server(children: Children, server: Server) -> Child:
    module = ("-m", "acmgproxy.demo.helloworld")
    options = ("--version", server.version, "--instance", server.instance, "--bind", f"{server.address}:{server.port}")
    return await children.start(server.instance, sys.executable, *module, *options)


async def _launch_gateway(children: Children, sample: Sample) -> Child:
    options = ("--config", str(sample.directory), "--workers", str(WORKERS), "--admin", sample.admin, "--shared-port", "0")
    return await children.start("gateway", sys.executable, "-m", "acmgproxy", "run", *options)


async def _wait_server(child: Child, server: Server) -> None:
    url = f"http://{server.address}:{server.port}/health"
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                async with session.get(url) as response:
                    return response.status == 200
            except aiohttp.ClientConnectionError:
                return False

        await wait_until(answers, child=child, what="answering", timeout_s=START_TIMEOUT_S)
