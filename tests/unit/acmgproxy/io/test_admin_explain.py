# SPDX-License-Identifier: Apache-2.0
"""Facts about the admin resource that explains a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from acmgproxy.asking import Question
from acmgproxy.io.admin import ALL_PAGES, HEALTH_PAGES
from acmgproxy.io.admin_explain import ExplainResource
from routing.explain import QuestionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class View:
    def __init__(self) -> None:
        self.asked: list[Question] = []

    async def explain(self, question: Question) -> dict[str, Any]:
        self.asked.append(question)
        if question.url == "bad":
            raise QuestionError("ask otherwise")
        return {"version": 1}


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
async def client(view: View) -> AsyncIterator[aiohttp.ClientSession]:
    resource = ExplainResource(view)
    assert repr(resource) == "<ExplainResource>"
    app = web.Application()
    app.router.add_get("/explain", resource.explain)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()


async def test_the_query_is_the_question(client: aiohttp.ClientSession, view: View) -> None:
    query = [
        ("url", "http://a/x?y=1"),
        ("method", "PUT"),
        ("header", "a: 1"),
        ("header", "b: 2 3"),
        ("from", "n/p"),
        ("to", "s:80"),
    ]
    async with client.get("/explain", params=query) as answer:
        assert (answer.status, await answer.json()) == (200, {"version": 1})
    assert view.asked == [Question(url="http://a/x?y=1", method="PUT", headers=("a: 1", "b: 2 3"), source="n/p", to="s:80")]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({}, "ask with url="),
        ({"url": ""}, "ask with url="),
        ({"url": "a", "headers": "x"}, "header"),
        ({"url": "bad"}, "otherwise"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    client: aiohttp.ClientSession, query: dict[str, str], reason: str
) -> None:
    async with client.get("/explain", params=query) as answer:
        assert answer.status == 400
        assert reason in (await answer.json())["error"]


def test_it_is_not_for_everybody_in_the_cluster() -> None:
    assert "/explain" in ALL_PAGES
    assert "/explain" not in HEALTH_PAGES
