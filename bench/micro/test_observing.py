# SPDX-License-Identifier: Apache-2.0
"""What seeing a request costs at its end, in one run: metrics alone, with the access log in each form, with Telemetry objects.

The bars: metrics at most 1.5 us, the access log off nothing more, on at most 4 us more; of the log's thread only the hand-over is
in it, its writing is `test_writing_lines`, per line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.access_log.lines import text_line
from acmgproxy.access_log.sink import Sink
from acmgproxy.io.downstream import Downstream
from bench.micro import kit
from routing.specs import ComparisonSpec, Specs, SpecsDiff, TelemetrySpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

    from acmgproxy.dataplane import DataPlane
    from acmgproxy.io.exchange import Exchange

OFF = AccessLogOptions()
FAILURES = TelemetrySpec(logged=True, log_filter=((ComparisonSpec(of="status", operator=">=", value=500),),))
CASES = {
    "metrics alone, log off": (OFF, {}),
    "text": (AccessLogOptions(sink=os.devnull), {}),
    "json": (AccessLogOptions(sink=os.devnull, format="json"), {}),
    "text, failures only": (AccessLogOptions(sink=os.devnull, min_status=500), {}),
    "off, telemetry about tracing": (OFF, {"": TelemetrySpec(sampling=0.5)}),
    "text, failures only by telemetry": (AccessLogOptions(sink=os.devnull), {"": FAILURES}),
}


@pytest.fixture
def plane() -> Iterator[DataPlane]:
    """A data plane that routes as the gateway of the comparison does."""
    with kit.data_plane() as plane:
        yield plane


@pytest.fixture
def exchange(plane: DataPlane) -> Iterator[Exchange]:
    """A request under way to an endpoint, with its answer's figures."""
    with kit.listening(plane) as listening, kit.idle_upstreams(plane):
        downstream = Downstream(plane, listening)
        downstream.connection_made(kit.transport())
        downstream.data_received(kit.request())
        assert downstream.exchange is not None
        downstream.exchange.status = 200
        yield downstream.exchange


@pytest.mark.parametrize("case", CASES)
def test_the_end_of_a_request(benchmark: BenchmarkFixture, plane: DataPlane, exchange: Exchange, case: str) -> None:
    """All that is done to see it; nothing of it is sent anywhere."""
    options, telemetry = CASES[case]
    plane.apply(SpecsDiff(version=2, put=Specs(telemetry=telemetry)))
    plane.set_logging(options, "info")
    log = plane.access_log
    benchmark(plane.record, exchange)
    assert (log is None) is (options is OFF)
    plane.set_logging(OFF, "info")


def test_writing_lines(benchmark: BenchmarkFixture, exchange: Exchange) -> None:
    """1,000 lines through the sink's thread to a file, its start and end included: divide by 1,000."""
    line = text_line(exchange, exchange.started + 0.01)

    def write() -> None:
        sink = Sink.open(os.devnull)
        for _ in range(1000):
            sink.put(line)
        sink.close()
        assert not sink.dropped

    benchmark(write)
