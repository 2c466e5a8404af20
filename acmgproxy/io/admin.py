# SPDX-License-Identifier: Apache-2.0
"""The admin server: what operators, probes and Prometheus ask the gateway.

It runs in the supervisor, so nothing it does shares an event loop with traffic. It only reads: `AdminView` says what, and the
answers are made here.

    /healthz    200 as long as the supervisor runs
    /ready      200 once every worker has served the newest configuration, 503 and the reason before that and while draining
    /metrics    for Prometheus
    /listeners  JSON: name, address, port, whether every worker accepts there, and what stands in the way
    /config     JSON: the configuration as workers have it, findings about the objects, and what was refused
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from acmgproxy.metrics.collector import render

if TYPE_CHECKING:
    import socket

    from prometheus_client.registry import Collector

__all__ = ["AdminServer", "AdminView"]

_JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class AdminView(Protocol):
    """What the admin server shows."""

    def not_ready_because(self) -> str:
        """Return why traffic should not come here, "" when it should."""

    def listeners(self) -> list[dict[str, Any]]:
        """Describe the listeners in plain data."""

    def config(self) -> dict[str, Any]:
        """Describe the configuration in plain data."""

    async def metrics(self) -> Collector:
        """Take all counters and return what renders them."""


class AdminServer:
    """Serves an AdminView over HTTP.

    Args:
        view: what to show.
        sock: where to listen; closed with the server.
    """

    def __init__(self, view: AdminView, sock: socket.socket) -> None:
        self._view = view
        self._sock = sock
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/listeners", self._listeners)
        app.router.add_get("/config", self._config)
        self._runner = web.AppRunner(app, access_log=None)

    def __repr__(self) -> str:
        return f"<AdminServer {self.url}>"

    @property
    def url(self) -> str:
        """Where it is, with the port the kernel chose."""
        address, port = self._sock.getsockname()[:2]
        return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"

    async def start(self) -> None:
        """Begin to serve."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._sock).start()

    async def close(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text="/healthz\n/ready\n/metrics\n/listeners\n/config\n")

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._view.not_ready_because()
        return web.Response(status=503, text=f"not ready: {reason}\n") if reason else web.Response(text="ready\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        collector = await self._view.metrics()
        text, content_type = await asyncio.to_thread(render, collector)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _listeners(self, _: web.Request) -> web.Response:
        return await _json(self._view.listeners())

    async def _config(self, _: web.Request) -> web.Response:
        return await _json(self._view.config())


async def _json(data: object) -> web.Response:
    body = await asyncio.to_thread(orjson.dumps, data, option=_JSON_OPTIONS)
    return web.Response(body=body, content_type="application/json")
