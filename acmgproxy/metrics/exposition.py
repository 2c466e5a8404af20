# SPDX-License-Identifier: Apache-2.0
"""Request metrics in Prometheus' text format, block by block.

A set of labels makes 67 lines of some 800 bytes, and there may be thousands of sets. prometheus-client would hold all of it
several times over and take three milliseconds for each set; here a block is made when the one before has been sent, and the text
of a set's labels is put together once. What a scrape holds is the counts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

from acmgproxy.metrics.collector import render
from acmgproxy.metrics.labels import REQUEST_LABELS
from acmgproxy.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.registry import Collector

    from acmgproxy.stats import Distribution, Series

__all__ = ["CONTENT_TYPE", "blocks", "request_blocks"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

BLOCK_CHARS = 128 * 1024
"""A block is about so long: 2 ms of work."""

_BOUNDS = tuple(f',le="{bound}"}} ' for bound in (*(floatToGoString(bound) for bound in BUCKETS), "+Inf"))  # type: ignore[no-untyped-call]

_REQUESTS = "istio_requests_total"

_HISTOGRAMS: tuple[tuple[str, str, Callable[[Series], Distribution]], ...] = (
    (
        "istio_request_duration_milliseconds",
        "Time from the request's head to the end of its answer.",
        lambda series: series.durations_ms,
    ),
    ("istio_request_bytes", "Sizes of request bodies.", lambda series: series.request_bytes),
    ("istio_response_bytes", "Sizes of answers' bodies.", lambda series: series.response_bytes),
)
"""Istio's histograms: name, text, where the values are."""


def blocks(collectors: Sequence[Collector], sum_up: Callable[[], dict[tuple[str, ...], Series]]) -> Iterator[bytes]:
    """Yield everything that a scrape gets. All the work is done as blocks are asked for, in whatever thread that is.

    Args:
        collectors: of everything but requests.
        sum_up: returns series by the values of REQUEST_LABELS.
    """
    yield render(*collectors)[0]
    yield from request_blocks(sum_up())


def request_blocks(total: dict[tuple[str, ...], Series]) -> Iterator[bytes]:
    """Yield the metrics of requests.

    Args:
        total: series by the values of REQUEST_LABELS.
    """
    if total:
        yield from _joined(_lines([(_label_text(values), series) for values, series in total.items()]))


def _joined(lines: Iterable[str]) -> Iterator[bytes]:
    block: list[str] = []
    length = 0
    for line in lines:
        block.append(line)
        length += len(line)
        if length >= BLOCK_CHARS:
            yield "".join(block).encode()
            block.clear()
            length = 0
    if block:
        yield "".join(block).encode()


def _lines(sets: list[tuple[str, Series]]) -> Iterator[str]:
    """Yield a family after the other; the lines of one set and family come as one text."""
    yield f"# HELP {_REQUESTS} Requests answered or given up.\n# TYPE {_REQUESTS} counter\n"
    for labels, series in sets:
        yield f"{_REQUESTS}{{{labels}}} {series.count}\n"
    for name, text, read in _HISTOGRAMS:
        yield f"# HELP {name} {text}\n# TYPE {name} histogram\n"
        for labels, series in sets:
            yield _histogram(name, labels, read(series))


def _histogram(name: str, labels: str, distribution: Distribution) -> str:
    head = f"{name}_bucket{{{labels}"
    total = 0
    lines = []
    for bound, count in zip(_BOUNDS, distribution.buckets, strict=True):
        total += count
        lines.append(f"{head}{bound}{total}\n")
    lines.append(f"{name}_sum{{{labels}}} {distribution.sum!r}\n{name}_count{{{labels}}} {total}\n")
    return "".join(lines)


def _label_text(values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(REQUEST_LABELS, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
