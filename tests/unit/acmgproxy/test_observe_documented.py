# SPDX-License-Identifier: Apache-2.0
"""docs/observe.md has every series of a scrape, every event of the logs, every flag."""

from __future__ import annotations

import ast
import asyncio
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import re2

from acmgproxy import reporting
from acmgproxy.access_log.lines import refused_json_line
from acmgproxy.dataplane import DataPlane
from acmgproxy.h1.errors import HeadError
from acmgproxy.metrics.collector import ConfigFacts, GatewayCollector
from acmgproxy.metrics.kube import WatchCollector
from acmgproxy.metrics.labels import REQUEST_LABELS
from acmgproxy.metrics.totals import Totals
from acmgproxy.replies import Failure
from acmgproxy.settings import ProxySettings
from acmgproxy.slot_state import WorkerHealth
from tests.protocol.world import World
from tests.unit.acmgproxy.control import FakeWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "observe.md").read_text(encoding="utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception"}
QUOTED = set(re2.findall(r"`([^`\n]+)`", TEXT))
SUFFIX = {"counter": "_total", "info": "_info"}


def _events() -> Iterator[tuple[str, str]]:
    """Yield each event that a process of the gateway or controller logs, and where."""
    for package in ("acmgproxy", "discovery"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.relative_to(ROOT).parts[1] in {"ctl", "demo"}:
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield from ((event, file.name) for event in _events_of(node.func, node.args))


def _events_of(called: ast.Attribute, arguments: list[ast.expr]) -> Iterator[str]:
    if called.attr == "note" and len(arguments) == 2:
        text = arguments[1]
    elif called.attr in LEVELS and ast.unparse(called.value).endswith("log") and arguments:
        text = arguments[0]
    else:
        return
    for choice in (text.body, text.orelse) if isinstance(text, ast.IfExp) else (text,):
        if isinstance(choice, ast.Constant) and isinstance(choice.value, str):
            yield choice.value


def test_every_event_is_in_the_table_and_no_other() -> None:
    section = TEXT.split("## Logs of the processes")[1]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    documented = {event for row in rows for event in re2.findall(r"`([^`]+)`", row.split("|")[1])}
    logged = dict(_events())
    assert len(logged) > 30
    assert {event: logged[event] for event in logged.keys() - documented} == {}
    assert documented - logged.keys() == set()


async def test_every_series_of_a_scrape_is_in_the_tables() -> None:
    plane = DataPlane(asyncio.get_running_loop(), ProxySettings(max_memory_bytes=1, max_active_requests=1), 0)
    plane.shedding.start()
    totals = Totals()
    totals.update(0, plane.stats())
    plane.shedding.stop()
    gateway = GatewayCollector(
        release="1",
        totals=totals,
        workers=[WorkerHealth(0, True, 1, 1, 0)],
        config=ConfigFacts(1, 0.0, 0, {}, 0, 0),
        is_ready=True,
    )
    names = {
        metric.name + SUFFIX.get(metric.type, "")
        for collector in (gateway, WatchCollector([FakeWatch("Pod")]))
        for metric in collector.collect()
    }
    assert len(names) > 50
    assert {name for name in names if not any(fnmatch(name, text) for text in QUOTED if text.startswith("acmg_"))} == set()


def test_every_documented_series_is_there() -> None:
    counters = {text for text in QUOTED if text.startswith("acmg_") and text.endswith("_total")}
    counted = {f"acmg_{name}_total" for name in reporting.COUNTERS}
    assert counted <= counters
    assert {text for text in counters - counted if not text.startswith(("acmg_worker_", "acmg_watch_"))} == set()


def test_labels_and_request_series_are_istio_s() -> None:
    for label in REQUEST_LABELS:
        assert label in QUOTED or label.replace("destination_", "source_") in QUOTED, label
    assert {text for text in QUOTED if text.startswith("istio_")} == {
        "istio_requests_total", "istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes",
    }  # fmt: skip


def test_every_flag_and_every_field_of_the_access_log_is_explained() -> None:
    assert {failure.value.flag for failure in Failure} | {"URX", "DC", "DI", "FI"} <= QUOTED
    world = World()
    downstream = world.client().protocol
    fields = msgspec.json.decode(refused_json_line(downstream, HeadError(400, "x"), Failure.PROTOCOL_ERROR))
    assert fields.keys() <= QUOTED
    world.check()
