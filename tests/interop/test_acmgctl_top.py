# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl top` and live gateways."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.interop.gateway import wait_for
from tests.interop.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.gateway import Gateway
    from tests.interop.upstream import Upstream

_TIMEOUT_S = 60.0


def acmgctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acmgproxy.ctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)


@pytest.fixture
def gateways(make_gateway: Callable[[], Gateway], make_upstream: Callable[..., Upstream]) -> list[tuple[Gateway, Shop]]:
    found = []
    for _ in range(2):
        gateway = make_gateway()
        shop = Shop(gateway, make_upstream)
        gateway.start()
        found.append((gateway, shop))
    return found


def test_two_gateways_are_added_up(gateways: list[tuple[Gateway, Shop]]) -> None:
    (one, first), (other, second) = gateways
    for shop, requests in ((first, 10), (second, 30)):
        for number in range(requests):
            shop.get("checkout", "/fail" if number < 2 else "/")
    urls = ("--gateway", one.admin, "--gateway", other.admin)
    ended = acmgctl("top", *urls, "-o", "json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    (checkout,) = [row for row in found["services"] if row["service"] == "checkout"]
    assert (checkout["requests"], checkout["errors"], checkout["error_ratio"], checkout["endpoints"]) == (40, 4, 0.1, 2)
    assert found["total"]["requests"] == 40
    ended = acmgctl("top", *urls, "-n", "shop", "--once")
    title, total, busiest, *_ = ended.stdout.splitlines()
    assert title.split() == ["NAMESPACE", "SERVICE", "REQ/S", "ERR/S", "ERRORS", "P50", "P99", "ENDPOINTS", "EJECTED"]
    assert total.split()[0] == "total"
    assert busiest.split()[:2] == ["shop", "checkout"]


def test_what_cannot_be_asked_is_an_error_with_advice(gateways: list[tuple[Gateway, Shop]]) -> None:
    (one, _), (other, shop) = gateways
    shop.get("checkout")
    gone = one.admin
    one.stop()
    ended = acmgctl("top", "--gateway", gone)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "check the address, and that the gateway runs" in ended.stderr
    ended = acmgctl("top", "--gateway", gone, "--gateway", other.admin)
    assert (ended.returncode, "checkout" in ended.stdout) == (0, True)
    assert f"warning: gateway {gone} gives no answer" in ended.stderr
    ended = acmgctl("top", "--gateway", shop.services["checkout"].url())
    assert "is it the admin server of a gateway?" in ended.stderr or "none of this release" in ended.stderr
    assert acmgctl("top", "--window", "10m").returncode == 2


def test_on_a_terminal_the_table_is_live_until_ctrl_c(gateways: list[tuple[Gateway, Shop]]) -> None:
    gateway, shop = gateways[0]
    shop.get("checkout")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    command = [sys.executable, "-m", "acmgproxy.ctl", "top", "--gateway", gateway.admin]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        os.set_blocking(ours, False)
        shown = bytearray()

        def shows(text: bytes) -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                shown.extend(os.read(ours, 65536))
            return text in shown

        wait_for(lambda: shows(b"checkout"), "the table")
        shop.get("search", "/fail")
        shown.clear()
        wait_for(lambda: shows(b"100.00"), "the errors of search")
        process.send_signal(signal.SIGINT)
        assert process.wait(_TIMEOUT_S) == 0
    os.close(ours)
