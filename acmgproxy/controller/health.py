# SPDX-License-Identifier: Apache-2.0
"""The controller's health server: what the kubelet and Prometheus ask.

/healthz    200 as long as the process runs
/ready      200 once it knows the cluster, leading or not; 503 and the reason before that
/metrics    for Prometheus
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

__all__ = ["HealthView", "serve_health"]


class HealthView(Protocol):
    """What the health server shows."""

    @property
    def is_leader(self) -> bool:
        """Whether this replica writes."""

    def not_ready_because(self) -> str:
        """Return what it does not know yet, "" when it knows all."""

    def metrics(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format and their content type."""


async def serve_health(view: HealthView, sock: socket.socket) -> web.AppRunner:
    """Serve until the runner that is returned is cleaned up, which closes the socket."""
    app = web.Application()
    for path, answer in _answers(view).items():
        app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


def _answers(view: HealthView) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        reason = view.not_ready_because()
        if reason:
            return web.Response(status=503, text=f"not ready: {reason}\n")
        return web.Response(text=f"ready, {'leading' if view.is_leader else 'following'}\n")

    async def metrics(_: web.Request) -> web.Response:
        text, content_type = view.metrics()
        return web.Response(body=text, headers={"Content-Type": content_type})

    return {"/healthz": healthz, "/ready": ready, "/metrics": metrics}
