# SPDX-License-Identifier: Apache-2.0
"""Facts about the table of traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from acmgproxy.ctl import top
from acmgproxy.ctl.cluster import CtlError, Where
from acmgproxy.ctl.top import TopOptions
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.objects import pod
from tests.unit.acmgproxy.ctl.stub import StubClient
from tests.unit.acmgproxy.ctl.test_traffic import answer, histogram, told

if TYPE_CHECKING:
    from acmgproxy.ctl.traffic import Answer

PODS = "/api/v1/namespaces/acmg-system/pods"
OPTIONS = TopOptions(where=Where())
BUSY = answer(told("reviews", histogram(1, 1, 4), errors=1, ejected=1), told("idle", histogram()))


def stub(**answers: Any) -> StubClient:
    """Make a cluster with gateways of these answers."""
    asked = {("GET", f"{PODS}/{name}%3A15021/proxy/overview/services"): [one] for name, one in answers.items()}
    return StubClient({("GET", PODS): [{"items": [pod(name) for name in answers]}], **asked})


async def look(client: StubClient, options: TopOptions = OPTIONS) -> Any:
    return await top._look(top._by_cluster(client.client, options), options)


def wire(one: Answer) -> Any:
    return msgspec.to_builtins(one)


def screen(seen: Any, *, height: int = 30, trouble: str = "") -> str:
    console = Console(width=120, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(top._screen(seen, height, trouble))
    return capture.get()


async def test_all_gateways_of_a_cluster_are_added_up() -> None:
    seen = await look(stub(a=wire(BUSY), b=wire(BUSY)))
    assert (seen.answered, seen.total.requests, seen.rows[0].service, seen.rows[0].errors) == (2, 6, "reviews", 2)
    text = screen(seen)
    assert text.startswith("2 gateways, last 60 s, Ctrl-C ends\n0.60 requests/s, errors 33.33 %, p50 ")
    assert "shop" in text
    data = top._as_data(seen)
    assert (data["gateways"], data["services"][0]["p99_ms"], "name" in data["total"]) == (2, seen.rows[0].p99_ms, False)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (ApiError(403, "Forbidden", "no"), "that takes the right to get pods/proxy in namespace acmg-system"),
        (ApiError(503, "ServiceUnavailable", "no route to host"), "gives no answer: no route to host"),
        ({"window": 1}, "gives an answer that is none of this release: "),
    ],
)
async def test_a_silent_gateway_is_named_and_left_out(said: Any, why: str) -> None:
    seen = await look(stub(a=wire(BUSY), b=said))
    assert seen.total.requests == 3
    assert seen.silent["b"].startswith(why)
    text = screen(seen)
    assert "1 of 2 gateways" in text
    assert f"b {why}" in text
    with pytest.raises(CtlError, match="no gateway answers; b: ") as caught:
        await look(stub(b=said))
    assert caught.value.code == 2


async def test_without_gateways_there_is_nothing_to_show() -> None:
    with pytest.raises(CtlError, match="no gateway runs in this cluster; `acmgctl status` says why"):
        await look(stub())


async def test_the_table_fits_the_terminal_and_says_what_is_wrong() -> None:
    many = answer(*(told(f"service-{number:02}", histogram(*[1] * (30 - number))) for number in range(30)))
    text = screen(await look(stub(a=wire(many))), height=12, trouble="the API server gives no answer")
    assert "service-05" in text
    assert "service-06" not in text
    assert "24 more Services" in text
    assert "the API server gives no answer" in text


async def test_requests_without_a_service_have_a_row_of_their_own() -> None:
    seen = await look(stub(a=wire(answer(told("unknown", histogram(1), errors=1)))))
    assert "(no known Service)" in screen(seen)
