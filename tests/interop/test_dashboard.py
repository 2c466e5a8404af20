# SPDX-License-Identifier: Apache-2.0
"""Facts about the dashboard, seen in a real browser, with a real gateway and traffic."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.browser import Browser
from tests.interop.gateway import Gateway, wait_for
from tests.interop.shop import REVIEWS, Shop
from tests.promql import Scrape, histogram_quantile, increase_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.browser import Page
    from tests.interop.upstream import Exchange, Upstream

_ROWS = "document.querySelectorAll('.services tbody tr').length"
_FOCUS = "document.activeElement.innerText || document.activeElement.id"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def shop(gateway: Gateway, make_upstream: Callable[..., Upstream]) -> Shop:
    shop = Shop(gateway, make_upstream)
    gateway.start(workers=2)
    return shop


@pytest.fixture
def page(browser: Browser, gateway: Gateway, shop: Shop) -> Iterator[Page]:
    """The page, on which nothing may go wrong and which asks nobody but the gateway."""
    page = browser.open(f"{gateway.admin}/dashboard")
    page.wait(f"{_ROWS} === {len(shop.services)}")
    yield page
    page.close()
    assert page.complaints == []
    assert {url for url in page.requests if not url.startswith(gateway.admin)} == set()


def overview(gateway: Gateway, path: str = "/overview") -> Any:
    return json.loads(gateway.get(path))


def refuse(exchange: Exchange) -> None:
    exchange.body()
    exchange.answer(503, b"")


def visit(page: Page, place: str, condition: str) -> None:
    page.eval(f"location.hash = {json.dumps(place)}")
    page.wait(condition)


def shown(page: Page, service: str) -> list[float]:
    """Return the exact figures in a Service's row."""
    values = page.eval(
        f"[...document.querySelectorAll('[data-key=\"{service}\"] data')]"
        ".map((one) => one.value === '' ? null : Number(one.value))"
    )
    assert isinstance(values, list)
    return values


def test_figures_equal_prometheus_over_the_same_window(gateway: Gateway, shop: Shop, page: Page) -> None:
    for name in shop.services:
        shop.get(name, "/fail" if name == "checkout" else "/")  # so that Prometheus has all series before the window
    shop.get("checkout")

    def window_is_quiet() -> bool:
        return bool(overview(gateway, "/overview/services?window=1")["total"]["requests"] == 0)

    wait_for(window_is_quiet, "a step after the first requests")
    start = overview(gateway, "/overview/services?window=1")["window"]["start"]
    before = Scrape.of(gateway.get("/metrics"))
    for number in range(120):
        shop.get("reviews")
        if number % 4 == 0:
            shop.get("checkout", "/fail" if number % 12 == 0 else "/")
        if number % 30 == 0:
            shop.get("search", "/slow")
    after = Scrape.of(gateway.get("/metrics"))
    answer = overview(gateway, f"/overview/services?window={max(1.0, time.time() - start - 0.05)}")
    assert answer["window"]["start"] == start
    seconds = answer["window"]["seconds"]
    by = ("destination_service",)
    requests = increase_by("istio_requests_total", before, after, by)
    errors = increase_by("istio_requests_total", before, after, by, lambda labels: labels["response_code"].startswith("5"))
    durations = increase_by("istio_request_duration_milliseconds_bucket", before, after, ("destination_service", "le"))
    found = {one["name"]: one for one in answer["services"]}
    assert {name.partition(".")[0]: one["requests"] for name, one in found.items() if one["requests"]} == {
        "reviews": 120,
        "checkout": 30,
        "search": 4,
    }
    for name, one in found.items():
        assert one["requests"] == requests[(name,)]
        assert one["errors"] == errors[(name,)]
        assert one["rate"] == pytest.approx(requests[(name,)] / seconds)
        assert one["error_rate"] == pytest.approx(errors[(name,)] / seconds)
        buckets = {float(le): count for (service, le), count in durations.items() if service == name}
        for q, ours in ((0.5, one["p50_ms"]), (0.99, one["p99_ms"])):
            theirs = histogram_quantile(q, buckets)
            assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs)
    assert found["checkout.shop.svc.cluster.local"]["error_ratio"] == pytest.approx(1 / 3)


def test_the_page_shows_the_figures_of_the_gateway(gateway: Gateway, shop: Shop, page: Page) -> None:
    for _ in range(40):
        shop.get("reviews")
    for path in ("/fail", "/", "/", "/"):
        shop.get("checkout", path)
    page.go(f"{gateway.admin}/dashboard")
    page.wait(f"{_ROWS} === {len(shop.services)}")
    said = {one["name"]: one for one in overview(gateway)["services"]}
    rate, errors, p50, p99 = shown(page, REVIEWS)
    reviews = said[REVIEWS]
    assert 0 < reviews["rate"] <= rate  # the window began with the gateway, and has grown since
    assert (errors, p50, p99) == (0, reviews["p50_ms"], reviews["p99_ms"])
    assert shown(page, "checkout.shop.svc.cluster.local")[1] == 0.25
    names = page.eval("[...document.querySelectorAll('.services tbody th')].map((one) => one.innerText)")
    assert names[:2] == ["reviews", "checkout"]
    assert "44 requests" in page.text(".tiles")
    page.wait("document.querySelector('.line-rate')")  # once a step is over there is a curve


def test_a_split_is_shown_beside_its_weights(gateway: Gateway, shop: Shop, page: Page) -> None:
    for _ in range(50):
        shop.get("reviews")
    assert shop.get("reviews", headers={"end-user": "jason"}) == 418
    visit(page, f"#/service/{REVIEWS}", "document.querySelectorAll('.split').length === 2")
    said = overview(gateway, "/overview/service?name=shop/reviews")
    testers, canary = said["routes"]
    assert (testers["action"], testers["conditions"]) == ("direct response (418)", ["header end-user = jason"])
    assert [(one["subset"], one["weight"], one["is_shared"]) for one in canary["destinations"]] == [
        ("v1", 90, False),
        ("v2", 10, False),
    ]
    received = {version: sum(len(one.received) for one in shop.upstreams[f"reviews-{version}"]) for version in ("v1", "v2")}
    assert {one["subset"]: one["requests"] for one in canary["destinations"]} == received
    assert sum(received.values()) == 50
    shares = page.eval("[...document.querySelectorAll('.split data')].map((one) => Number(one.value))")
    assert shares == [received["v1"] / 50, received["v2"] / 50]
    text = page.text("main")
    assert "testers" in text
    assert "weight 90.0 %" in text
    width = "document.querySelector('.bar .live').getBoundingClientRect().width / document.querySelector('.bar').clientWidth"
    page.wait(f"Math.abs({width} - {received['v1'] / 50}) < 0.01")
    shop.split(50)
    page.wait("document.querySelector('main').innerText.includes('weight 50.0 %')")  # without a reload


def test_endpoints_have_their_load_and_ejections(gateway: Gateway, shop: Shop, page: Page) -> None:
    bad = shop.upstreams["ratings-v1"][0]
    bad.on("/", refuse)

    def ejected() -> list[dict[str, Any]]:
        for _ in range(12):
            shop.get("ratings")
        endpoints = overview(gateway, "/overview/service?name=ratings.shop")["endpoints"]
        return [one for one in endpoints if one["ejected"]]

    wait_for(ejected, "an ejection")
    (out,) = ejected()
    assert (out["address"], out["port"]) == bad.address
    assert out["failures"] == out["requests"] == len(bad.received)
    assert (out["workload"], out["version"], out["locality"].strip("/")) == ("ratings-v1", "v1", "zone-a")
    said = {one["service"]: one for one in overview(gateway)["services"]}
    assert (said["ratings"]["endpoints"], said["ratings"]["ejected"]) == (4, 1)
    page.go(f"{gateway.admin}/dashboard")
    page.wait(f"{_ROWS} === {len(shop.services)}")
    assert "1 ejected" in page.text('[data-key="ratings.shop.svc.cluster.local"]')
    visit(page, "#/service/ratings.shop.svc.cluster.local", "document.querySelectorAll('.endpoints tbody tr').length === 4")
    first = page.text(".endpoints tbody tr")
    assert f"{bad.address[0]}:{bad.address[1]}" in first
    assert "ejected" in first


def test_the_page_is_used_with_the_keyboard_alone(shop: Shop, page: Page) -> None:
    page.press("Tab")
    assert page.eval(_FOCUS) == "Skip to the content"
    seen = []
    for _ in range(8):
        page.press("Tab")
        seen.append(page.eval(_FOCUS))
        assert page.eval("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert seen[2:] == ["Services", "Gateway", "Problems", "Route tester", "filter", "Service"]
    page.press("/")
    assert page.eval(_FOCUS) == "filter"
    page.type("rev")
    page.wait(f"{_ROWS} === 1")
    for _ in range(20):
        page.press("Tab")
        if page.eval(_FOCUS) == "reviews":
            break
    page.press("Enter")
    page.wait("document.querySelector('.endpoints')")
    assert page.eval("document.activeElement.id") == "main"
    page.press("Tab")
    assert page.eval(_FOCUS) == "← All Services"
    page.press("Enter")
    page.wait(_ROWS)


def test_columns_sort_and_focus_stays_where_it_was(shop: Shop, page: Page) -> None:
    page.eval("document.querySelector('[data-sort=name]').focus()")
    page.press("Enter")
    page.wait("document.querySelector('[aria-sort]').innerText.startsWith('Service')")
    names = "[...document.querySelectorAll('.services tbody th')].map((one) => one.innerText).join(' ')"
    assert page.eval(names) == " ".join(sorted(shop.services))
    page.press("Enter")
    page.wait("document.querySelector('[aria-sort=descending]')")
    assert page.eval(names) == " ".join(sorted(shop.services, reverse=True))
    assert page.eval("document.activeElement.dataset.sort") == "name"


def test_a_refresh_changes_only_what_has_changed(shop: Shop, page: Page) -> None:
    page.eval("document.querySelector('.services tbody tr').marked = true; document.querySelector('.services a').focus()")
    asked = len(page.requests)
    shop.get("inventory")
    page.wait("document.querySelector('.services tbody tr').innerText.startsWith('inventory')")
    assert len(page.requests) > asked
    rows = page.eval("[...document.querySelectorAll('.services tbody tr')].filter((one) => one.marked).length")
    assert rows == 1
    assert page.eval("document.activeElement.tagName") == "A"
    assert page.eval("document.querySelector('#said').textContent") == ""  # nothing is read aloud every few seconds


def test_the_route_tester_asks_the_gateway(shop: Shop, page: Page) -> None:
    visit(page, "#/route", "document.querySelector('#tester')")
    page.eval("document.querySelector('#url').focus()")
    page.type(f"http://reviews.shop:{shop.services['reviews'].address[1]}/x")
    page.press("Tab")
    page.type("end-user: jason")
    page.press("Tab", "Tab")
    page.press("Enter")
    page.wait("document.querySelector('#result').innerText.includes('418')")
    result = page.text("#result")
    assert "testers" in result
    assert "VirtualService shop/reviews" in result
    page.eval("document.querySelector('#headers').value = ''; document.querySelector('#tester').requestSubmit()")
    page.wait("document.querySelector('#verdict').innerText.includes('v1 90')")
    page.eval("document.querySelector('#url').value = 'nonsense://'; document.querySelector('#tester').requestSubmit()")
    page.wait("document.querySelector('#result .finding.error')")
    page.complaints.clear()  # the browser itself notes the 400 of the answer
    assert "undefined" not in page.text("#result")


def test_a_gateway_that_cannot_explain_says_so(page: Page) -> None:
    page.eval(
        "{ const asked = window.fetch; window.fetch = (path) => asked(path.startsWith('explain') ? 'no-such-page' : path); }"
    )
    visit(page, "#/route", "document.querySelector('#tester')")
    page.eval("document.querySelector('#url').value = 'http://reviews/'; document.querySelector('#tester').requestSubmit()")
    page.wait("document.querySelector('#result').innerText.includes('cannot explain routes')")
    page.complaints.clear()  # the browser itself notes the 404 of the answer


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_until_the_reader_chooses(page: Page, scheme: str) -> None:
    other = {"light": "dark", "dark": "light"}[scheme]
    ground = "getComputedStyle(document.body).backgroundColor"
    page.prefer(scheme)
    wanted = page.eval(ground)
    page.prefer(other)
    assert page.eval(ground) != wanted
    page.eval(
        f"document.querySelector('#theme').value = '{scheme}';"
        "document.querySelector('#theme').dispatchEvent(new Event('change', { bubbles: true }))"
    )
    assert page.eval(ground) == wanted
    page.go(page.eval("location.href"))
    assert page.eval(ground) == wanted
    page.eval("localStorage.clear()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(shop: Shop, page: Page, scheme: str) -> None:
    """Every text has the contrast that WCAG AA asks for: 4.5 to what is behind it."""
    shop.get("checkout", "/fail")
    page.prefer(scheme)
    page.go(page.eval("location.href"))
    page.wait("document.querySelector('.services .bad')")
    assert page.eval(_CONTRASTS) == []


@pytest.mark.parametrize(
    ("place", "ready"),
    [
        ("#/services", _ROWS),
        (f"#/service/{REVIEWS}", "document.querySelector('.endpoints')"),
        ("#/gateway", "document.querySelector('.tiles')"),
        ("#/problems", "document.querySelector('.finding')"),
        ("#/route", "document.querySelector('#tester')"),
    ],
)
def test_nothing_is_beside_a_phones_screen(browser: Browser, gateway: Gateway, shop: Shop, place: str, ready: str) -> None:
    shop.add_mistakes()
    wait_for(lambda: overview(gateway)["diagnostics"] and overview(gateway)["problems"], "findings")
    for _ in range(3):
        shop.get("reviews")
    page = browser.open(f"{gateway.admin}/dashboard{place}", width=360, height=740)
    page.wait(ready)
    assert page.eval("document.documentElement.scrollWidth") == 360
    beside = page.eval(
        "[...document.querySelectorAll('body *')].filter((one) => { const box = one.getBoundingClientRect();"
        " return box.width > 1 && (box.right > 361 || box.left < -1) && one.className !== 'skip'; }).map((one) => one.outerHTML)"
    )
    assert beside == []
    assert page.complaints == []


def test_problems_are_shown_with_their_remedy(gateway: Gateway, shop: Shop, page: Page) -> None:
    assert page.eval("document.querySelector('#problem-count').hidden")
    shop.add_mistakes()
    page.wait("!document.querySelector('#problem-count').hidden")
    visit(page, "#/problems", "document.querySelectorAll('.finding').length === 2")
    text = page.text("main")
    for words in (
        "VirtualService shop/search",
        "spec.http[0].timeout",
        "last good version",
        "IST0101",
        "chekout",
        "Correct the name",
    ):
        assert words in text


def test_names_of_objects_are_text_and_nothing_else(gateway: Gateway, shop: Shop, page: Page) -> None:
    evil = '<img src=x onerror="window.caught = 1"><script>window.caught = 1</script>'
    gateway.apply({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "evil", "namespace": "shop"},
        "spec": {"hosts": ["search"], "http": [{
            "name": evil,
            "match": [{"headers": {"x-evil": {"exact": evil}}}],
            "route": [{"destination": {"host": "search"}}],
        }]},
    })  # fmt: skip
    visit(page, "#/service/search.shop.svc.cluster.local", "document.querySelector('.routes')")
    page.wait("document.querySelector('.routes').innerText.includes('onerror')")
    assert evil in page.text(".routes strong")
    assert page.eval("window.caught ?? document.querySelector('main img, main script')") is None


def test_the_policy_lets_nothing_else_run(page: Page) -> None:
    page.eval("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.caught = 1\">')")
    page.wait("true")
    page.eval(
        "{ const script = document.createElement('script'); script.textContent = 'window.caught = 1';"
        " document.body.append(script); }"
    )
    refused = page.eval("fetch('http://127.0.0.2:9/').then(() => 'asked', (error) => 'refused')")
    assert (refused, page.eval("window.caught ?? null")) == ("refused", None)
    assert any("Content Security Policy" in complaint for complaint in page.complaints)
    page.complaints.clear()
    page.requests.clear()


def test_a_gateway_that_is_away_is_said_to_be(
    browser: Browser, make_gateway: Callable[[], Gateway], make_upstream: Callable[..., Upstream]
) -> None:
    gateway = make_gateway()
    shop = Shop(gateway, make_upstream)
    gateway.start()
    page = browser.open(f"{gateway.admin}/dashboard")
    page.wait(f"{_ROWS} === {len(shop.services)}")
    gateway.stop()
    page.wait("document.querySelector('#away').innerText.includes('does not answer')")
    assert page.eval(_ROWS) == len(shop.services)
    assert page.text("#state").startswith("away")


def test_a_browser_that_asks_for_the_root_gets_the_page(browser: Browser, gateway: Gateway, shop: Shop) -> None:
    page = browser.open(gateway.admin)
    page.wait(_ROWS)
    assert page.eval("location.pathname") == "/dashboard"
    assert "/metrics\n" in gateway.get("/")


def test_the_gateway_and_its_workers_are_shown(gateway: Gateway, page: Page) -> None:
    visit(page, "#/gateway", "document.querySelectorAll('tbody tr').length === 2")
    text = page.text("main")
    for pid in gateway.workers():
        assert f"pid {pid}" in text
    assert "6 of 6" in text


_CONTRASTS = """(() => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const over = (colour, below) => {
    context.fillStyle = below; context.fillRect(0, 0, 1, 1);
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
    return `rgb(${red} ${green} ${blue})`;
  };
  const linear = (one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/\\d+/g).map((one) => linear(one / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) =>
    element ? over(getComputedStyle(element).backgroundColor, ground(element.parentElement)) : 'rgb(255 255 255)';
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const isShown = element.offsetParent && !element.closest('.unseen, .skip, noscript, option, .arrow');
    if (!isShown || !walker.currentNode.data.trim()) continue;
    const behind = luminance(ground(element));
    const text = luminance(over(getComputedStyle(element).color, ground(element)));
    const contrast = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    if (contrast < 4.5) poor.push(`${walker.currentNode.data}: ${contrast.toFixed(2)}`);
  }
  return poor;
})()"""
