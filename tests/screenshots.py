# SPDX-License-Identifier: Apache-2.0
"""Takes the pictures of docs/dashboard.md: a gateway, a shop behind it, some minutes of traffic, and a headless Chromium.

python -m tests.screenshots docs/images [--seconds 150]
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.interop.browser import Browser
from tests.interop.gateway import Gateway
from tests.interop.shop import REVIEWS, Shop
from tests.interop.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.interop.browser import Page
    from tests.interop.upstream import Exchange

__all__ = ["main"]

_WIDTH, _HEIGHT = 1200, 820
_PHONE = (360, 740)
_RATE_PER_S = 120.0
_SHARES = {"catalogue": 10, "reviews": 8, "search": 4, "ratings": 4, "checkout": 2}
_BAD = 0.97
_READY = "document.querySelector('.services tbody tr')"


def main(arguments: Sequence[str] | None = None) -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description="Take the pictures of the dashboard.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=float, default=150.0, help="traffic before the pictures are taken (default: 150)")
    options = parser.parse_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = Gateway(directory)
        stack.callback(gateway.stop)
        shop = Shop(gateway, lambda name: stack.enter_context(Upstream(name)))
        shop.upstreams["ratings-v1"][0].on("/", _broken)
        gateway.start(workers=2)
        shop.add_mistakes()
        stop = threading.Event()
        traffic = [threading.Thread(target=_ask, args=(shop, stop, number)) for number in range(4)]
        for thread in traffic:
            thread.start()
        for thread in traffic:
            stack.callback(thread.join)
        stack.callback(stop.set)
        stop.wait(options.seconds)
        (directory / "profile").mkdir()
        with Browser(directory / "profile") as browser:
            _take(browser, gateway.admin, options.directory)
    for picture in sorted(options.directory.glob("dashboard-*.png")):
        print(f"{picture} {picture.stat().st_size / 1024:.0f} kB")


def _take(browser: Browser, admin: str, directory: Path) -> None:
    page = browser.open(f"{admin}/dashboard", width=_WIDTH, height=_HEIGHT)
    page.wait(_READY)
    page.picture(directory / "dashboard-light.png")
    page.prefer("dark")
    page.picture(directory / "dashboard-dark.png")
    page.prefer("light")
    _visit(page, f"#/service/{REVIEWS}", ".endpoints")
    page.picture(directory / "dashboard-service.png")
    _visit(page, "#/service/ratings.shop.svc.cluster.local", ".pill.bad")
    page.prefer("dark")
    page.picture(directory / "dashboard-ejected.png")
    page.prefer("light")
    _visit(page, "#/problems", ".finding")
    page.picture(directory / "dashboard-problems.png")
    _visit(page, "#/gateway", ".tiles")
    page.picture(directory / "dashboard-gateway.png")
    _visit(page, "#/route", "#tester")
    page.eval("document.querySelector('#url').focus()")
    page.type("http://reviews.shop/reviews/1")
    page.press("Tab")
    page.type("end-user: anna")
    page.press("Tab", "Tab", "Enter")
    page.wait("document.querySelector('#result').innerText")
    page.eval("document.activeElement.blur()")
    page.picture(directory / "dashboard-route.png")
    for name, scheme, place, ready in (
        ("phone", "light", "", _READY),
        ("phone-service", "dark", f"#/service/{REVIEWS}", ".endpoints"),
    ):
        phone = browser.open(f"{admin}/dashboard{place}", width=_PHONE[0], height=_PHONE[1], scheme=scheme, scale=2)
        phone.wait(ready if ready == _READY else f"document.querySelector('{ready}')")
        phone.picture(directory / f"dashboard-{name}.png")


def _visit(page: Page, place: str, selector: str) -> None:
    page.eval(f"location.hash = {place!r}")
    page.wait(f"document.querySelector('{selector}')")


def _ask(shop: Shop, stop: threading.Event, seed: int) -> None:
    """Ask the Services at a rate that goes up and down."""
    chance = random.Random(seed)
    names, weights = list(_SHARES), list(_SHARES.values())
    while not stop.wait(4 / (_RATE_PER_S * (0.75 + 0.25 * math.sin(time.monotonic() / 12)))):
        name = chance.choices(names, weights)[0]
        path = "/slow" if name == "search" and chance.random() < 0.3 else "/"
        if name == "checkout" and chance.random() > _BAD:
            path = "/fail"
        shop.get(name, path)


def _broken(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(503, b"no\n")


if __name__ == "__main__":
    main()
