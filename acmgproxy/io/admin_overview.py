# SPDX-License-Identifier: Apache-2.0
"""The admin resources that show the overview, and the page that shows it to people.

    /overview           JSON: gateway, traffic of all Services, workers, problems
    /overview/services  JSON: the traffic alone; this much is for everybody in a cluster, as /metrics is
    /overview/service   JSON: the Service `name` in full, or 404
    /dashboard          the page; it asks for the three above, and for nothing from anywhere else

All take `window`, the seconds that figures are about: 1 to 300, 60 unless given.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from acmgproxy.dashboard import ASSETS, PAGE
from acmgproxy.overview.history import HORIZON_S, WINDOW_S

if TYPE_CHECKING:
    from acmgproxy.dashboard import Asset

__all__ = ["DASHBOARD_PAGES", "OverviewResources", "OverviewView", "wants_html"]

DASHBOARD_PAGES = (PAGE, *ASSETS)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""Nothing but the page's own files may run or be asked, whatever names in users' objects contain. Files have an ETag."""


class OverviewView(Protocol):
    """What the resources show. `seconds` is the window."""

    async def overview(self, seconds: float) -> dict[str, Any]:
        """Describe gateway, traffic, workers and problems."""

    async def overview_services(self, seconds: float) -> dict[str, Any]:
        """Describe the traffic of all Services."""

    async def overview_service(self, name: str, seconds: float) -> dict[str, Any] | None:
        """Describe a Service, None if there is none of that name."""


class OverviewResources:
    """Answers for the overview.

    Args:
        view: what to show.
    """

    def __init__(self, view: OverviewView) -> None:
        self._view = view
        self.handlers = {
            "/overview": self._overview,
            "/overview/services": self._services,
            "/overview/service": self._service,
            **dict.fromkeys(DASHBOARD_PAGES, self._asset),
        }

    def __repr__(self) -> str:
        return f"<OverviewResources {list(self.handlers)}>"

    async def _overview(self, request: web.Request) -> web.Response:
        return await _json(await self._view.overview(_seconds(request)))

    async def _services(self, request: web.Request) -> web.Response:
        return await _json(await self._view.overview_services(_seconds(request)))

    async def _service(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        found = await self._view.overview_service(name, _seconds(request)) if name else None
        if found is None:
            what = f"no Service {name}" if name else "no name given"
            return web.Response(status=404, text=f"{what}; ask for /overview/service?name=NAMESPACE/SERVICE\n")
        return await _json(found)

    async def _asset(self, request: web.Request) -> web.Response:
        asset: Asset = ASSETS.get(request.path) or ASSETS[f"{PAGE}/index.html"]
        if any(known.value in {asset.etag, "*"} for known in request.if_none_match or ()):
            response = web.Response(status=304, headers=_HEADERS)
        else:
            response = web.Response(body=asset.body, content_type=asset.content_type, charset=asset.charset, headers=_HEADERS)
        response.etag = asset.etag
        return response


def wants_html(request: web.Request) -> bool:
    """Whether a browser asks: programs do not name text/html."""
    return "text/html" in request.headers.get("Accept", "")


def _seconds(request: web.Request) -> float:
    """Return the window asked for.

    Raises:
        HTTPBadRequest: it is none.
    """
    text = request.query.get("window", str(WINDOW_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= HORIZON_S:
        raise web.HTTPBadRequest(text=f"window={text}: give seconds, 1 to {HORIZON_S:.0f}\n")
    return seconds


async def _json(value: dict[str, Any]) -> web.Response:
    body = await asyncio.to_thread(orjson.dumps, value)
    return web.Response(body=body, content_type="application/json", headers={"X-Content-Type-Options": "nosniff"})
