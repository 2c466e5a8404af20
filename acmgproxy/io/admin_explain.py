# SPDX-License-Identifier: Apache-2.0
"""The admin resource that explains a request.

    /explain?url=http://reviews.default:9080/x&method=GET&header=end-user:%20jason&from=default/sleep&to=reviews.default:9080

`header` may come several times, all but `url` may be missing. The answer is JSON: routing.explain's Explanation, with the version
of the configuration and the workers that have it. A question that makes no sense is 400 with the reason, as JSON too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from acmgproxy.asking import Question
from routing.explain import QuestionError

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["ExplainResource", "ExplainView"]

_PARAMETERS = frozenset({"url", "method", "header", "from", "to"})


class ExplainView(Protocol):
    """What the resource shows."""

    async def explain(self, question: Question) -> dict[str, Any]:
        """Explain a request in plain data.

        Raises:
            QuestionError: there is no answer.
        """


class ExplainResource:
    """Answers questions about requests.

    Args:
        view: who knows.
    """

    def __init__(self, view: ExplainView) -> None:
        self._view = view

    def __repr__(self) -> str:
        return "<ExplainResource>"

    async def explain(self, request: web.Request) -> web.Response:
        """Answer a question."""
        status = 200
        try:
            body: dict[str, Any] = await self._view.explain(_question(request.query))
        except QuestionError as error:
            status, body = 400, {"error": str(error)}
        data = await asyncio.to_thread(orjson.dumps, body)
        headers = {"X-Content-Type-Options": "nosniff"}
        return web.Response(status=status, body=data, content_type="application/json", headers=headers)


def _question(query: MultiMapping[str]) -> Question:
    if not query.get("url") or not _PARAMETERS.issuperset(query):
        raise QuestionError(f"ask with url=http://HOST/PATH, and if you like {', '.join(sorted(_PARAMETERS - {'url'}))}")
    return Question(
        url=query["url"],
        method=query.get("method", "GET"),
        headers=tuple(query.getall("header", ())),
        source=query.get("from", ""),
        to=query.get("to", ""),
    )
