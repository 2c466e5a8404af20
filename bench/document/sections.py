# SPDX-License-Identifier: Apache-2.0
"""The sections about traffic: each gives its text, and a plot where one helps. A section without figures says so."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bench.document.svg import Axes, Bar, Line, bars, lines
from bench.document.words import NAMES, cell, compared, listed, table

if TYPE_CHECKING:
    from bench.document.results import Results, Spread

__all__ = ["Section", "bodies", "churn", "cpu", "rates", "table_hosts", "two_sidecars", "workers"]

_OURS = "acmgproxy"
_TWO = "envoy-two-hops"
_TEN: dict[str, object] = {"headers": 10, "distinct": False}
_BUSY = 0.8
"""From this share of a CPU on, queueing rather than work makes the delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the document. `plot`: file name (without suffix), what it shows, and SVG."""

    title: str
    text: str
    plot: tuple[str, str, str] | None = None


def rates(results: Results) -> Section:
    """Latency when requests come at a fixed rate."""
    found = results.labels("rates", "rate")
    peers = results.labels("rates", "peer")
    if not found:
        return _nothing("Latency at a fixed rate")
    data = [
        Line(peer=peer, label=f"{NAMES[peer]}, {metric}", points=points, is_dashed=metric == "p99")
        for peer in peers
        for metric in ("p50", "p99")
        if (points := _points(results, "rates", "rate", f"{metric}_us", peer))
    ]
    axes = Axes(title="Latency over the offered rate", x="requests per second, 64 connections", y="latency, microseconds")
    head = ["requests/s", "peer", "p50 us", "p99 us", "p99.9 us", "CPU us/request", "share of its CPU"]
    rows = []
    saturated = []
    for rate in found:
        for peer in peers:
            labels: dict[str, object] = {"peer": peer, "rate": rate}
            cpu = results.find("rates", "cpu_us", **labels)
            share = cpu.median * rate / 1e6 if cpu is not None else None
            if share is not None and share >= _BUSY:
                saturated.append(f"{NAMES[peer]} at {rate:,} requests/s ({share:.0%})")
            latencies = [cell(results.find("rates", f"{name}_us", **labels), 0) for name in ("p50", "p99", "p999")]
            rows.append([f"{rate:,}", NAMES[peer], *latencies, cell(cpu), "-" if share is None else f"{share:.0%}"])
    said = [
        f"at {rate:,} requests/s {_versus(results, 'rates', 'p50_us', {'rate': rate}, _TWO)} at p50 and "
        f"{_versus(results, 'rates', 'p99_us', {'rate': rate}, _TWO)} at p99"
        for rate in found
    ]
    lag, own = (max(median(row["values"][name]) for row in results.rows("rates")) for name in ("lag_p99_us", "client_cpu_us"))
    text = (
        f"A request through the gateway takes {listed(said)}. A request that finds every connection busy counts from when it was "
        "due, so all that waits for a proxy which is behind is in the latency. "
        + (
            f"More than {_BUSY:.0%} of the CPU was in use by {listed(saturated)}: there, queueing is most of the delay. "
            if saturated
            else ""
        )
        + "Both Envoys share one CPU here, which matters when it is nearly full. "
        f"The client, which shares its CPU with the upstream, sent up to {lag:,.0f} us late at p99 (not counted) and cost up to "
        f"{own:.0f} us of CPU for each request, whoever the peer was; that it reads late is part of all latencies."
    )
    text += _agreement(results)
    plot = ("latency-over-rate", axes.title, lines(axes, data, is_y_logarithmic=True))
    return Section(title="Latency at a fixed rate", text=f"{text}\n\n{table(head, rows)}", plot=plot)


def _agreement(results: Results) -> str:
    """Say how the client compares with h2load where both must see the same."""
    said = []
    for peer in results.labels("client", "peer"):
        own, other = (results.find("client", "p50_us", peer=peer, client=name) for name in ("bench.openloop", "h2load"))
        if own is not None and other is not None:
            said.append(f"{own.text(0)} us and {other.text(0)} us for {NAMES[peer]}")
    if not said:
        return ""
    rate = results.labels("client", "rate")[0]
    return f" At {rate} requests/s on one connection, where nothing waits, it and h2load measure a p50 of {listed(said)}."


def cpu(results: Results) -> Section:
    """CPU per request by peer, and throughput of the closed loop."""
    rows = results.rows("connections")
    if not rows:
        return _nothing("CPU per request")
    data = [
        Bar(group=f"{connections} connections", peer=peer, label=NAMES[peer], value=value)
        for connections in (16, 64)
        for peer in results.labels("connections", "peer")
        if (value := results.find("connections", "cpu_us", peer=peer, connections=connections, **_TEN))
    ]
    axes = Axes(title="CPU per request, 10 request headers", x="", y="microseconds of CPU per request")
    said = [
        f"{_versus(results, 'connections', 'cpu_us', {'connections': 16, **_TEN}, peer)}"
        for peer in ("nginx", "haproxy", "envoy", _TWO)
        if peer in results.labels("connections", "peer")
    ]
    distinct = _versus(results, "connections", "cpu_us", {"connections": 16, "headers": 10, "distinct": True}, "envoy")
    text = (
        f"With 16 connections a request costs the gateway {listed(said)}. It recognises a head that its connection has brought "
        f"before, which a load generator does all the time; when every request has a head of its own it costs {distinct}. Real "
        "traffic lies between the two. CPU is user and system time of all processes of a peer, the gateway's supervisor "
        "included."
    )
    head = ["connections", "headers", "peer", "CPU us/request", "requests/s", "p50 us", "p99 us"]
    body = []
    for row in rows:
        labels = {name: row[name] for name in ("peer", "connections", "headers", "distinct")}
        headers = f"{row['headers']}{', all different' if row['distinct'] else ''}"
        figures = [cell(results.find("connections", name, **labels), 0 if name != "cpu_us" else 1) for name in _CLOSED]
        body.append([str(row["connections"]), headers, NAMES[row["peer"]], *figures])
    for row in results.rows("new_connections"):
        figures = [
            cell(results.find("new_connections", name, peer=row["peer"]), 0 if name != "cpu_us" else 1) for name in _CLOSED
        ]
        body.append([f"{row['connections']}, new each time", str(row["headers"]), NAMES[row["peer"]], *figures])
    plot = ("cpu-per-request", axes.title, bars(axes, data)) if data else None
    return Section(title="CPU per request", text=f"{text}\n\n{table(head, body)}", plot=plot)


_CLOSED = ("cpu_us", "rps", "p50_us", "p99_us")


def bodies(results: Results) -> Section:
    """Bodies, down and up."""
    rows = results.rows("bodies")
    if not rows:
        return _nothing("Bodies")
    largest = max(row["bytes"] for row in rows)
    head = ["way", "body", "peer", "CPU us/request", "MB/s", "p50 us", "p99 us"]
    body = []
    for row in rows:
        labels = {name: row[name] for name in ("peer", "way", "bytes")}
        rps = results.find("bodies", "rps", **labels)
        speed = "-" if rps is None else f"{rps.median * row['bytes'] / 1e6:,.0f}"
        figures = [
            cell(results.find("bodies", name, **labels), 1 if name == "cpu_us" else 0) for name in ("cpu_us", "p50_us", "p99_us")
        ]
        body.append([row["way"], _size(row["bytes"]), NAMES[row["peer"]], figures[0], speed, *figures[1:]])
    said = [
        f"{'an answer' if way == 'down' else 'an upload'} of {_size(largest)} costs "
        f"{_versus(results, 'bodies', 'cpu_us', {'way': way, 'bytes': largest}, peer)}"
        for way in ("down", "up")
        for peer in ("nginx", "envoy")
    ]
    text = f"CPU of the gateway: {listed(said)}. 16 connections; uploads are read whole before they are answered."
    return Section(title="Bodies", text=f"{text}\n\n{table(head, body)}")


def table_hosts(results: Results) -> Section:
    """What the size of the routing table costs."""
    found = results.labels("table_hosts", "hosts")
    if not found:
        return _nothing("Size of the routing table")
    data = [
        Line(peer=peer, label=NAMES[peer], points=points)
        for peer in results.labels("table_hosts", "peer")
        if (points := _points(results, "table_hosts", "hosts", "cpu_us", peer))
    ]
    axes = Axes(title="CPU per request over the size of the routing table", x="hosts in the table", y="microseconds per request")
    few, many = found[0], found[-1]
    ratio = results.ratio("table_hosts", "cpu_us", {"peer": _OURS, "hosts": many}, {"peer": _OURS, "hosts": few})
    text = (
        f"With {many:,} hosts, each with a Service and a VirtualService, a request costs {compared(ratio, f'with {few:,}')}. Ten "
        "hosts are asked for whatever the size, with a head of its own for each request: a look-up is one step in a hash table, "
        "so what may grow is only how far apart things lie in memory."
    )
    head = ["hosts", "peer", "CPU us/request", "p50 us", "p99 us"]
    rows = [
        [f"{row['hosts']:,}", NAMES[row["peer"]]]
        + [
            cell(results.find("table_hosts", name, peer=row["peer"], hosts=row["hosts"]), 1 if name == "cpu_us" else 0)
            for name in ("cpu_us", "p50_us", "p99_us")
        ]
        for row in results.rows("table_hosts")
    ]
    plot = ("cost-over-table-size", axes.title, lines(axes, data)) if data else None
    return Section(title="Size of the routing table", text=f"{text}\n\n{table(head, rows)}", plot=plot)


def workers(results: Results) -> Section:
    """What a second worker brings."""
    found = results.labels("workers", "workers")
    if not found:
        return _nothing("Workers")
    cpus = int(results.data["machine"]["cpus"])
    few, many = found[0], found[-1]
    gains = [
        f"{NAMES[peer]} {ratio.median:.2f} times"
        for peer in results.labels("workers", "peer")
        if (ratio := results.ratio("workers", "rps", {"peer": peer, "workers": many}, {"peer": peer, "workers": few}))
    ]
    shared = cpus <= many
    text = (
        f"{many} workers instead of {few} bring {listed(gains)} the requests/s. "
        + (
            f"This machine has {cpus} CPUs, so load generator and upstream share them with the workers: what a further worker "
            "brings cannot be seen here, only what it costs per request. "
            if shared
            else ""
        )
        + "Workers share nothing but the listening address."
    )
    head = ["workers", "peer", "requests/s", "CPU us/request", "p50 us", "p99 us"]
    rows = [
        [str(row["workers"]), NAMES[row["peer"]]]
        + [
            cell(results.find("workers", name, peer=row["peer"], workers=row["workers"]), 1 if name == "cpu_us" else 0)
            for name in ("rps", "cpu_us", "p50_us", "p99_us")
        ]
        for row in results.rows("workers")
    ]
    return Section(title="Workers", text=f"{text}\n\n{table(head, rows)}")


def churn(results: Results) -> Section:
    """Latency while the configuration changes."""
    if not results.rows("churn"):
        return _nothing("While the configuration changes")
    rate = results.labels("churn", "rate")[0]
    metrics = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"))
    data = [
        Bar(group=name, peer=_OURS if kind == "quiet" else "envoy", label=kind, value=value)
        for metric, name in metrics
        for kind in ("quiet", "churn")
        if (value := results.find("churn", metric, kind=kind))
    ]
    axes = Axes(title=f"Latency at {rate:,} requests/s, quiet and while the configuration changes", x="", y="microseconds")
    ratio = results.ratio("churn", "p99_us", {"kind": "churn"}, {"kind": "quiet"})
    changes = results.find("churn", "changes", kind="churn")
    versions = results.find("churn", "versions", kind="churn")
    text = (
        f"{cell(changes, 0)} changes/s of routes and endpoints, published as {cell(versions, 0)} versions/s of the "
        f"configuration: p99 is {compared(ratio, 'when nothing changes')}. The changes are files that are replaced, so the "
        "supervisor's reading, translating and sending, on the same CPU as the worker, are part of it. One of the endpoints "
        "under load comes and goes."
    )
    head = ["", *(f"{name} us" for _, name in metrics), "CPU us/request"]
    rows = [
        [
            kind,
            *(cell(results.find("churn", metric, kind=kind), 0) for metric, _ in metrics),
            cell(results.find("churn", "cpu_us", kind=kind)),
        ]
        for kind in ("quiet", "churn")
    ]
    return Section(
        title="While the configuration changes",
        text=f"{text}\n\n{table(head, rows)}",
        plot=("churn", axes.title, bars(axes, data)),
    )


def two_sidecars(results: Results) -> Section:
    """The claim: less delay than two sidecars."""
    places: list[tuple[str, str, dict[str, object]]] = [
        ("connections", f"{connections} connections", {"connections": connections, **_TEN}) for connections in (1, 16, 64)
    ]
    places += [("rates", f"{rate:,} requests/s", {"rate": rate}) for rate in results.labels("rates", "rate")]
    head = ["load", "p50, whole", "p50, added", "p99, whole", "p99, added"]
    rows = []
    whole: list[float] = []
    for name, place, labels in places:
        cells = []
        for metric in ("p50_us", "p99_us"):
            ours, two, direct = (results.find(name, metric, peer=peer, **labels) for peer in (_OURS, _TWO, "direct"))
            cells.append(_less(ours, two))
            if metric == "p50_us" and ours is not None and two is not None:
                whole.append((1 - ours.median / two.median) * 100)
            added = ours is not None and two is not None and direct is not None and two.median > direct.median
            cells.append(_less(ours, two, direct) if added else "-")
        rows.append([place, *cells])
    if not whole:
        return _nothing("Delay beside two sidecars")
    low, high = min(whole), max(whole)
    if low >= 20:
        verdict = "more than was hoped for" if low > 40 else "as was hoped for"
    else:
        verdict = "less than was hoped for" + (", in part" if high >= 20 else "")
    text = (
        "The idea behind the gateway: one hop that does the work of two should save 20 to 40 % of the delay of two sidecars. "
        f"Measured the same way, as the share of the whole delay of a request, it saves {low:.0f} to {high:.0f} % at p50: "
        f"{verdict}. The table "
        'also has the share of what proxies add to a request without one ("added"). In the closed loop, told by '
        "connections, both Envoys share one CPU that is full: with a CPU each they would be up to twice as fast. The fixed "
        "rates are the fair comparison, as long as that CPU is not full there. Sidecars with mutual TLS and telemetry filters "
        "do more than these plain Envoys; a network between the hops, which loopback does not have, is in neither figure."
    )
    return Section(title="Delay beside two sidecars", text=f"{text}\n\n{table(head, rows)}")


def _less(ours: Spread | None, two: Spread | None, direct: Spread | None = None) -> str:
    if ours is None or two is None:
        return "-"
    floor = direct.median if direct is not None else 0.0
    change = ((ours.median - floor) / (two.median - floor) - 1) * 100
    return f"{abs(change):.0f} % {'less' if change <= 0 else 'more'}"


def _versus(results: Results, name: str, metric: str, labels: dict[str, object], peer: str) -> str:
    return compared(results.ratio(name, metric, {"peer": _OURS, **labels}, {"peer": peer, **labels}), NAMES[peer])


def _points(results: Results, name: str, x: str, metric: str, peer: str) -> list[tuple[float, Spread]]:
    found = [(at, results.find(name, metric, peer=peer, **{x: at})) for at in results.labels(name, x)]
    return [(at, value) for at, value in found if value is not None]


def _size(size: int) -> str:
    return f"{size // 1024**2} MiB" if size >= 1024**2 else f"{size // 1024} KiB"


def _nothing(title: str) -> Section:
    return Section(title=title, text="Not measured in this run.")
