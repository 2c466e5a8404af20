# SPDX-License-Identifier: Apache-2.0
"""Facts about what gateways say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.ctl.gateways import ask_gateways, image_version, read_metrics
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.objects import node, pod
from tests.unit.acmgproxy.ctl.stub import StubClient

PROXY = "/api/v1/namespaces/acmg-system/pods/gw%3A15021/proxy/"
METRICS = """# HELP acmg_config_version Newest configuration.
acmg_config_version 7.0
acmg_config_changed_timestamp_seconds 1.5e+09
istio_requests_total{reporter="waypoint"} 3.0
acmg_worker_up{worker="0"} 1.0
acmg_worker_up{worker="1"} 0.0
acmg_watch_stale_seconds{kind="Service"} 2.5
acmg_watch_stale_seconds{kind="Pod"} 4.0
"""
LISTENERS = [{"bound": True, "port": 1}, {"bound": False, "port": 2}]


def test_the_metrics_that_matter_are_read() -> None:
    assert read_metrics(METRICS) == {
        "config_version": 7,
        "config_changed_at": 1.5e9,
        "workers": 2,
        "workers_up": 1,
        "stale_s": 4.0,
    }
    assert read_metrics("istio_requests_total 3.0\n") == {}
    assert read_metrics(None) == {}


async def test_a_gateway_is_asked_through_the_api_server() -> None:
    stub = StubClient({("GET", PROXY + "listeners"): [LISTENERS], ("GET", PROXY + "metrics"): [METRICS]})
    (found,) = await ask_gateways(stub.client, [pod("gw")], [node("node-1", {"topology.kubernetes.io/zone": "z"})])
    assert (found.pod, found.node, found.zone, found.ready, found.version) == ("gw", "node-1", "z", True, "1.2")
    assert (found.listeners, found.listeners_bound, found.workers_up, found.config_version, found.note) == (2, 1, 1, 7, "")


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (ApiError(403, "Forbidden", "x"), "not asked: that takes the right to get pods/proxy in its namespace"),
        (ApiError(503, "ServiceUnavailable", "no route"), "gives no answer: no route"),
        ("<html>", "gives an answer that is none of this release: Expected `array`, got `str`"),
    ],
)
async def test_a_gateway_that_cannot_be_asked_is_shown_with_the_reason(answer: Any, note: str) -> None:
    (found,) = await ask_gateways(StubClient({("GET", PROXY + "listeners"): [answer]}).client, [pod("gw", ready=False)], [])
    assert (found.ready, found.listeners, found.note) == (False, None, note)


async def test_what_ails_a_pod_matters_more_than_that_it_does_not_answer() -> None:
    ending = pod("gw")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    waiting = {"image": "i", "state": {"waiting": {"reason": "InvalidImageName"}}}
    states = await ask_gateways(StubClient({}).client, [pod("x", containerStatuses=[waiting]), ending], [])
    assert [one.pod for one in states] == ["gw", "x"]
    assert states[0].note == "is being stopped"
    assert "InvalidImageName" in states[1].note


def test_a_version_is_the_tag_of_the_image() -> None:
    assert image_version(pod("a")) == "1.2"
    assert image_version(pod("a", image="host:5000/x/acmgproxy:3@sha256:0")) == "3"
    assert image_version(pod("a", image="acmgproxy")) == "acmgproxy"
