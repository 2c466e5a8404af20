# SPDX-License-Identifier: Apache-2.0
"""Facts about what is said of watches."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from acmgproxy.app.options import KubernetesOptions, RunOptions, StartError
from acmgproxy.app.sources import WatchLog, open_source, waiting_for
from tests.unit.acmgproxy.control import FakeWatch, MemoryLog

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = "connection refused"


class Looks:
    """A watch log that is made to look once a second."""

    def __init__(self) -> None:
        self.now = 100.0
        self.memory = MemoryLog()
        log: Any = self.memory
        self.log = WatchLog(log, clock=lambda: self.now)

    def at(self, now: float, *watches: FakeWatch) -> list[tuple[str, list[str]]]:
        """Look, and return what was said: the event and the kinds."""
        self.now = now
        said = len(self.memory.lines)
        self.log.look(watches)
        return [(event, fields["kinds"]) for _, event, fields in self.memory.lines[said:]]


def test_kinds_that_are_not_read_yet_are_named_with_the_reason() -> None:
    watches = [
        FakeWatch("Service", last_error=REFUSED),
        FakeWatch("Namespace", synced=True, last_error=REFUSED),
        FakeWatch("ServiceEntry", absent=True),
        FakeWatch("Pod", last_error=REFUSED),
        FakeWatch("EndpointSlice", last_error="403 Forbidden"),
        FakeWatch("VirtualService"),
    ]
    assert waiting_for(watches) == "kubernetes: Service, Pod (connection refused); EndpointSlice (403 Forbidden); VirtualService"
    assert waiting_for(watches[1:3]) == ""
    assert waiting_for(()) == ""


def test_trouble_is_said_once_and_its_end_once() -> None:
    looks = Looks()
    assert looks.at(100, FakeWatch("Service", synced=True, stale_s=20), FakeWatch("Pod", synced=True, stale_s=30)) == []
    down = (
        FakeWatch("Service", errors=1, stale_s=21, last_error=REFUSED),
        FakeWatch("Pod", errors=1, stale_s=31, last_error=REFUSED),
    )
    assert looks.at(101, *down) == [("watching kubernetes fails", ["Service", "Pod"])]
    assert looks.memory.lines[-1][2]["reason"] == REFUSED
    down = (
        FakeWatch("Service", errors=9, stale_s=30, last_error=REFUSED),
        FakeWatch("Pod", errors=9, stale_s=40, last_error=REFUSED),
    )
    assert looks.at(110, *down) == []
    up = FakeWatch("Service", errors=9, stale_s=0.5), FakeWatch("Pod", errors=9, stale_s=41)
    assert looks.at(111, *up) == [("watching kubernetes again", ["Service"])]
    assert "['Pod']" in repr(looks.log)
    assert looks.at(112, FakeWatch("Service", errors=9, stale_s=1.5), FakeWatch("Pod", errors=9, stale_s=0.1)) == [
        ("watching kubernetes again", ["Pod"])
    ]
    assert looks.at(120, FakeWatch("Service", errors=10, stale_s=9.5, last_error=REFUSED)) == [
        ("watching kubernetes fails", ["Service"])
    ]


def test_a_server_that_was_never_there_is_trouble() -> None:
    assert Looks().at(100, FakeWatch("Pod", errors=1, stale_s=inf, last_error=REFUSED)) == [
        ("watching kubernetes fails", ["Pod"])
    ]


def test_a_stream_that_is_cut_and_goes_on_is_no_trouble() -> None:
    looks = Looks()
    assert looks.at(100, FakeWatch("Pod", synced=True, errors=1, stale_s=0.2, last_error="cut")) == []
    assert looks.at(101, FakeWatch("Pod", synced=True, errors=1, stale_s=1.2, last_error="cut")) == []


async def test_a_cluster_that_cannot_be_found_is_the_end(tmp_path: Path) -> None:
    options = RunOptions(kubernetes=KubernetesOptions(kubeconfig=tmp_path / "nowhere"), workers=1, admin=("127.0.0.1", 0))
    with pytest.raises(StartError, match="nowhere"):
        await open_source(options)
