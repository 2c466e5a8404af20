# SPDX-License-Identifier: Apache-2.0
"""Facts about the metrics of watches."""

from __future__ import annotations

from math import inf

from prometheus_client.parser import text_string_to_metric_families

from acmgproxy.metrics.collector import render
from acmgproxy.metrics.kube import WatchCollector
from tests.unit.acmgproxy.control import FakeWatch


def test_each_kind_is_a_series() -> None:
    watches = [
        FakeWatch("Service", synced=True, objects=5, stale_s=1.5, relists=2, errors=3),
        FakeWatch("ServiceEntry", absent=True),
        FakeWatch("Pod", stale_s=inf),
    ]
    text, _ = render(WatchCollector(watches))
    found = {
        (sample.name.removeprefix("acmg_watch_"), sample.labels["kind"]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert [found["synced", kind] for kind in ("Service", "ServiceEntry", "Pod")] == [1, 1, 0]
    assert [found["stale_seconds", kind] for kind in ("Service", "Pod")] == [1.5, inf]
    assert (found["objects", "Service"], found["relists_total", "Service"], found["errors_total", "Service"]) == (5, 2, 3)


def test_files_have_none() -> None:
    assert render(WatchCollector(()))[0] == b""
