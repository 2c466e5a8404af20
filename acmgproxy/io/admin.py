# SPDX-License-Identifier: Apache-2.0
"""The admin server: what operators, probes and Prometheus ask the gateway.

It runs in the supervisor, so nothing it does shares an event loop with traffic. It reads: `AdminView` says what, and the answers
are made here; only /logging changes anything. Some pages are for everybody in a cluster, so that the pod's address serves them;
the configuration is not.

    /healthz    200 as long as the supervisor runs
    /ready      200 once every worker has served the newest configuration, 503 and the reason before that and while draining
    /metrics    for Prometheus
    /listeners  JSON: each address, whether every worker accepts there, what stands in the way, and what stands behind it;
                with an ETag, because it is asked for every second
    /config     JSON: the configuration as workers have it, findings about the objects, and what was refused
    /logging    JSON: how requests and processes are logged; PUT changes it (see acmgproxy.io.admin_logging)
    /explain    JSON: what happens to a request, and why: see acmgproxy.io.admin_explain
    /overview, /dashboard and what belongs to them: see acmgproxy.io.admin_overview
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson
from aiohttp import web

from acmgproxy.dashboard import PAGE
from acmgproxy.io.admin_explain import ExplainResource, ExplainView
from acmgproxy.io.admin_logging import PAGE as LOGGING_PAGE
from acmgproxy.io.admin_logging import LoggingResource, LoggingView
from acmgproxy.io.admin_overview import DASHBOARD_PAGES, OverviewResources, OverviewView, wants_html
from acmgproxy.metrics.exposition import CONTENT_TYPE

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterator


__all__ = ["ALL_PAGES", "HEALTH_PAGES", "AdminServer", "AdminView", "Page"]

HEALTH_PAGES = ("/healthz", "/ready", "/metrics", "/listeners", "/overview/services")
ALL_PAGES = (*HEALTH_PAGES, "/overview", "/overview/service", *DASHBOARD_PAGES, "/explain", "/config", LOGGING_PAGE)

_JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class Page(NamedTuple):
    """A page of JSON, and a tag that is equal as long as it is."""

    body: bytes
    etag: str


class AdminView(OverviewView, ExplainView, LoggingView, Protocol):
    """What the admin server shows."""

    def not_ready_because(self) -> str:
        """Return why traffic should not come here, "" when it should."""

    async def listeners(self) -> Page:
        """Describe the listeners."""

    def config(self) -> dict[str, Any]:
        """Describe the configuration in plain data."""

    async def metrics(self) -> Iterator[bytes]:
        """Take all counters and return what renders them, block by block and in another thread."""


class AdminServer:
    """Serves an AdminView over HTTP.

    Args:
        view: what to show.
        sock: where to listen; closed with the server.
        pages: which pages there are.
    """

    def __init__(self, view: AdminView, sock: socket.socket, *, pages: Collection[str] = ALL_PAGES) -> None:
        self._view = view
        self._sock = sock
        self._pages = pages
        logging = LoggingResource(view)
        handlers = {
            "/healthz": self._healthz,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/listeners": self._listeners,
            "/config": self._config,
            "/explain": ExplainResource(view).explain,
            **OverviewResources(view).handlers,
            **logging.handlers,
        }
        app = web.Application()
        app.router.add_get("/", self._index)
        for page in pages:
            app.router.add_get(page, handlers[page])
        if LOGGING_PAGE in pages:
            app.router.add_put(LOGGING_PAGE, logging.put)
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

    async def _index(self, request: web.Request) -> web.Response:
        if PAGE in self._pages and wants_html(request):
            raise web.HTTPFound(PAGE.removeprefix("/"))  # relative: there may be a proxy in front
        return web.Response(text="".join(f"{page}\n" for page in self._pages if not page.startswith(f"{PAGE}/")))

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        reason = self._view.not_ready_because()
        return web.Response(status=503, text=f"not ready: {reason}\n") if reason else web.Response(text="ready\n")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        """Send a block while nothing but counts is held of the rest: of a large mesh it is hundreds of megabytes."""
        blocks = await self._view.metrics()
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        while block := await asyncio.to_thread(next, blocks, b""):
            await response.write(block)
        await response.write_eof()
        return response

    async def _listeners(self, request: web.Request) -> web.Response:
        page = await self._view.listeners()
        if any(known.value in {page.etag, "*"} for known in request.if_none_match or ()):
            response = web.Response(status=304)
        else:
            response = web.Response(body=page.body, content_type="application/json")
        response.etag = page.etag
        return response

    async def _config(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(orjson.dumps, self._view.config(), option=_JSON_OPTIONS)
        return web.Response(body=body, content_type="application/json")
