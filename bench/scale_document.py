# SPDX-License-Identifier: Apache-2.0
"""docs/scale.md and its plots: what a big cluster costs, from measured points and `bench.scale_model`. No figure is written "
"by hand.

python -m bench scale-document                  from bench/results/quick.json and scale_points.json
python -m bench scale-document --measure        measure the points first (bench.scale, about five minutes; a quiet machine)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.document.svg import Axes, Curve, over_time
from bench.document.words import table
from bench.scale_model import ASSUMED, MEASURED, Cluster, fail_open, gateways_needed, propagate, recapture, rollout
from routing.capture import GATEWAY_PORTS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Slopes", "main", "slopes", "write"]

_PROJECT = Path(__file__).resolve().parents[1]
_RESULTS = _PROJECT / "bench" / "results"

NODES, PODS, SERVICES, CAPTURED, GATEWAYS, WORKERS = 5_000, 150_000, 10_000, 2_000, 20, 4
"""The cluster that is reckoned: the limits that Kubernetes is tested with, and Services and gateways as an example."""

REQUESTS_PER_S, CPUS, TARGET, SPARE = 500_000, 4, 0.6, 2
"""The load that is reckoned, processors of a gateway, how busy they shall be, and gateways that may be missing."""

POD_LIFE_S = 6 * 3600.0
SLICE_EVENTS_PER_POD, POD_EVENTS_PER_POD = 3, 7
"""What a pod's life writes: its endpoint comes, is terminating and goes; and its own status from scheduled to deleted."""

_POINTS = ((1000, 10, 100), (5000, 10, 500), (1000, 10, 1000), (1000, 30, 100))
"""Services, endpoints of each, captured ones: one point more than a plane needs in each direction."""

_COLOURS = ("#0b62a4", "#3f8f4f", "#c4622d", "#8e2f5c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """Resident memory of a process in bytes: without anything, and for each thing."""

    base: float
    service: float
    captured: float
    endpoint: float

    def total_mb(self, services: int, captured: int, endpoints: int) -> float:
        """Return megabytes for so many things."""
        return (self.base + self.service * services + self.captured * captured + self.endpoint * endpoints) / 1e6


def slopes(points: Sequence[dict[str, Any]], process: str) -> Slopes:
    """Find base and slopes through four points: small, five times the size, more captured, more endpoints."""
    small, big, captured, endpoints = (point["figures"][f"{process}_mb"] * 1e6 for point in points)
    of = [point["options"] for point in points]
    count = [one["services"] * one["endpoints"] for one in of]
    per_captured = (captured - small) / (of[2]["captured"] - of[0]["captured"])
    per_endpoint = (endpoints - small) / (count[3] - count[0])
    rest = big - small - per_captured * (of[1]["captured"] - of[0]["captured"]) - per_endpoint * (count[1] - count[0])
    per_service = rest / (of[1]["services"] - of[0]["services"])
    base = small - per_service * of[0]["services"] - per_captured * of[0]["captured"] - per_endpoint * count[0]
    return Slopes(base=base, service=per_service, captured=per_captured, endpoint=per_endpoint)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the document, after measuring if that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m bench scale-document", description="Write docs/scale.md.")
    parser.add_argument("--measure", action="store_true", help="measure the points first")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="directory of the results (default %(default)s)")
    parser.add_argument("--output", type=Path, default=_PROJECT / "docs", help="where to write (default %(default)s)")
    options = parser.parse_args(argv)
    if options.measure:
        _measure(options.results / "scale_points.json")
    try:
        quick = json.loads((options.results / "quick.json").read_text("utf-8"))
        points = json.loads((options.results / "scale_points.json").read_text("utf-8"))
    except OSError as error:
        print(f"{error.filename} cannot be read; make bench-quick and --measure write what is needed", file=sys.stderr)
        return 1
    for path in write(quick, points, options.output):
        print(f"written: {path}")
    return 0


def _measure(path: Path) -> None:
    from bench import scale  # noqa: PLC0415 - needs programs that writing the document does not

    found = []
    described: dict[str, object] = {}
    for services, endpoints, captured in _POINTS:
        asked = scale.Options(
            services=services, endpoints=endpoints, captured=captured, probes=4, rate=200, load=500, seconds=10.0
        )
        figures, described = scale.measure(asked, print)
        found.append({
            "options": {name: getattr(asked, name) for name in ("services", "endpoints", "captured", "rate", "load")},
            "figures": {name: getattr(figures, name) for name in figures.__dataclass_fields__},
        })  # fmt: skip
    text = json.dumps({"machine": described, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "points": found}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def write(quick: dict[str, Any], points: dict[str, Any], directory: Path) -> list[Path]:
    """Write the document and its plots into a directory; return the files."""
    plots = directory / "scale"
    plots.mkdir(parents=True, exist_ok=True)
    page = directory / "scale.md"
    parts = [
        _introduction(quick, points),
        _cpu(quick),
        _memory(points),
        _ports(),
        _watches(points),
        _propagation(),
        _controller(),
    ]
    page.write_text("\n\n".join([*parts, _breaks(points), _repeat()]) + "\n", encoding="utf-8")
    written = [page]
    for name, text in (("propagation", _propagation_plot()), ("fail-open", _fail_open_plot())):
        path = plots / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _introduction(quick: dict[str, Any], points: dict[str, Any]) -> str:
    machine = points["machine"]
    return (
        "<!-- Generated by `python -m bench scale-document`. Do not edit. -->\n\n# Scale\n\n"
        f"What a cluster of {NODES:,} nodes and {PODS:,} pods costs, with {SERVICES:,} Services of which {CAPTURED:,} are "
        f"captured, and {GATEWAYS} gateways of {WORKERS} workers. No such cluster was at hand: **[m]** is measured, on "
        f"{machine['cpus']} CPUs ({machine['cpu']}, {machine['python']}, load average {machine['load_average']}) at smaller "
        "sizes, "
        f"{points['date']}; **[r]** is reckoned from that; **[s]** is simulated; **[a]** is assumed of others' components. "
        "Put your own numbers in: the formulas are there."
    )


def _us_per_request(quick: dict[str, Any]) -> float:
    return max(
        float(row["cpu_us_per_request"]) for row in quick["rows"] if row["name"] == "acmgproxy" and row["connections"] == 64
    )


def _cpu(quick: dict[str, Any]) -> str:
    cost = _us_per_request(quick)
    rows = [
        [f"{rate:,}", f"{rate * cost / 1e6:,.1f}", str(gateways_needed(rate, cost, cpus=CPUS, target=TARGET, spare=SPARE))]
        for rate in (10_000, 100_000, REQUESTS_PER_S, 2_000_000)
    ]
    return (
        "## Gateways\n\nA request costs "
        f"{cost:.1f} us of processor time **[m]** (64 connections, the dearer of the two request sizes of "
        "bench/results/quick.json; "
        "with few requests at a time up to three times that). Bodies, TLS to endpoints and access logs come on top.\n\n"
        "    gateways = ceil(requests per second x cost / (CPUs of a gateway x share they may be busy)) + spare ones\n\n"
        f"With {CPUS} CPUs each, {TARGET:.0%} busy, {SPARE} spare **[r]**:\n\n"
        f"{table(['requests/s', 'CPUs busy', 'gateways'], rows)}\n\n"
        "Only captured Services count: the rest of the cluster's traffic never comes here."
    )


def _memory(points: dict[str, Any]) -> str:
    rows, totals = [], []
    for process in ("supervisor", "worker"):
        found = slopes(points["points"], process)
        rows.append([process, *(f"{value / 1e3:,.1f}" for value in (found.base, found.service, found.captured, found.endpoint))])
        totals.append(found.total_mb(SERVICES, CAPTURED, PODS))
    whole = totals[0] + WORKERS * totals[1]
    return (
        "## Memory\n\nResident memory in KB **[m]** (base and slopes through four sizes, bench/results/scale_points.json):\n\n"
        f"{table(['process', 'base', 'a Service', 'a captured one more', 'an endpoint with its Pod'], rows)}\n\n"
        f"For this cluster **[r]**: supervisor {totals[0]:,.0f} MB, each worker {totals[1]:,.0f} MB, a gateway of {WORKERS} "
        "workers "
        f"{whole:,.0f} MB before its connections ([tuning.md](tuning.md)). Every gateway watches the whole cluster, whatever "
        "part of "
        "it is captured: memory does not shrink with more gateways. A replaced worker (SIGHUP) needs one worker's memory "
        "more for "
        "some seconds. The manifests' limit is 4 GiB."
    )


def _ports() -> str:
    ports = len(GATEWAY_PORTS)
    head = ["captured ports", "workers", "limit for the supervisor", "a worker, besides clients", "while it stands in"]
    rows = [
        [f"{count:,}", str(workers), f"{ceil_thousand(count * workers / 0.75):,}", f"{2 * count:,}", f"{4 * count:,}"]
        for count, workers in ((500, 2), (CAPTURED, WORKERS), (ports, 2), (ports, WORKERS))
    ]
    return (
        f"## Ports and descriptors\n\nEach captured Service port has one of {ports:,} gateway ports "
        f"({GATEWAY_PORTS[0]}-{GATEWAY_PORTS[-1]}), the same on every gateway. When all are taken, the next Service stays "
        "direct; its "
        "annotation `acmg.io/status` and an Event say `pending: all 10000 gateway ports (20000-29999) are taken: release "
        "Services or "
        "exclude ports`. Nothing else happens. A released port rests for five minutes. The range is `GATEWAY_PORTS` in "
        "routing/capture.py; a larger one needs a release of your own and NetworkPolicies "
        "that know it; above it are NodePorts (30000-32767) and then the kernel's own choice for outgoing connections.\n\n"
        "Open files **[m]**: the supervisor holds one for each port and worker, a worker two for each port; while a worker "
        "is away, "
        "another one holds its sockets, too. The supervisor keeps a quarter of its limit free:\n\n"
        f"{table(head, rows)}"
        "\n\nContainers usually have a million. Where the limit is too low, the ports for which there is no room say `too "
        "many open "
        "files: raise the limit ...` in the log and in `/listeners`; the controller then does not count this gateway for those "
        "Services, and captures none that no gateway can serve. All else goes on: the supervisor answers probes, replaces "
        "workers, and opens the rest within a second of the limit being raised (tests/interop/test_descriptors.py)."
    )


def ceil_thousand(value: float) -> int:
    """Round up to a thousand."""
    return -int(-value // 1000) * 1000


def _watches(points: dict[str, Any]) -> str:
    slice_bytes, pod_bytes, service_bytes = 6_000, 4_000, 1_500
    pod_churn = PODS / POD_LIFE_S
    events = pod_churn * (SLICE_EVENTS_PER_POD + POD_EVENTS_PER_POD)
    stream = pod_churn * (SLICE_EVENTS_PER_POD * slice_bytes + POD_EVENTS_PER_POD * pod_bytes)
    first = PODS * pod_bytes + (SERVICES + CAPTURED) * (service_bytes + slice_bytes)
    start = next(point["figures"] for point in points["points"] if point["options"]["services"] == 5000)
    return (
        "## Watches\n\nEach gateway has one watch for each of eight kinds, in its supervisor; workers have none. Sizes "
        "**[a]**: a "
        f"Pod {pod_bytes:,} bytes as JSON, an EndpointSlice {slice_bytes:,}, a Service {service_bytes:,}; a pod lives for "
        f"{POD_LIFE_S / 3600:.0f} hours and makes {POD_EVENTS_PER_POD} events of its own and {SLICE_EVENTS_PER_POD} of its "
        "slice.\n\n"
        f"- events **[r]**: {pod_churn:.1f} pods/s come and go, {events:,.0f} events/s and {stream / 1e3:,.0f} KB/s for each "
        f"gateway, {events * GATEWAYS:,.0f} events/s and {stream * GATEWAYS / 1e6:.1f} MB/s for {GATEWAYS}. The API server sends "
        f"each slice event to {NODES:,} kube-proxies anyway: {GATEWAYS} gateways are {GATEWAYS / NODES:.1%} more of those. Pod "
        "events are what gateways add, since a kubelet watches its own pods only.\n"
        f"- start **[r]**: {first / 1e6:,.0f} MB for each gateway. A cluster of 5,000 Services and 50,000 endpoints is read in "
        f"{start['source_sync_s']} s and served after {start['ready_s']} s **[m]** (slim pods); this one takes about "
        f"{PODS / 50_000:.0f} times as long.\n"
        f"- all at once **[r]**: when an API server restarts, {GATEWAYS} gateways watch again from the version they have, "
        "which costs "
        "nothing; only if that is forgotten (410) or the server was restored do all read everything: "
        f"{first * GATEWAYS / 1e9:.1f} GB. Waits are 0.8 s doubled up to 30 s, each stretched up to twofold at random, so "
        "that they "
        "spread over some seconds at the first attempt and a minute later on; streams are renewed at random after 5 to 10 "
        "minutes. "
        "No request notices: the last configuration is served."
    )


def _propagation() -> str:
    rows = []
    for gateways, nodes, changes in (
        (5, 500, 10),
        (GATEWAYS, NODES, 50),
        (GATEWAYS, NODES, 200),
        (50, NODES, 200),
        (50, NODES, 1000),
    ):
        found = propagate(Cluster(gateways=gateways, workers=WORKERS, watchers=nodes, changes_per_s=changes), seconds=10.0)
        late = found.busy >= 1.0 or found.supervisor_busy >= 1.0
        rows.append([
            f"{nodes:,}", str(gateways), str(changes), "falls behind" if late else f"{found.p50_ms:.0f}",
            "falls behind" if late else f"{found.p99_ms:.0f}", f"{found.busy:.0%}", f"{found.supervisor_busy:.0%}",
        ])  # fmt: skip
    head = ["nodes", "gateways", "changes/s", "p50, ms", "p99, ms", "API servers busy", "supervisor busy"]
    return (
        "## How soon a change is everywhere\n\n![simulated propagation](scale/propagation.svg)\n\n"
        "From the write of an EndpointSlice until every worker of every gateway has it **[s]** (`bench.scale_model`, seed 1):\n\n"
        f"{table(head, rows)}\n\n"
        f"Inputs: the supervisor takes {MEASURED.supervisor_us:.0f} us for a change and a worker {MEASURED.worker_us:.0f} us "
        "**[m]**; "
        f"a write takes {ASSUMED.commit_ms:g} ms until it is in the watch cache, an event {ASSUMED.fan_out_us:g} us for each "
        "watcher "
        f"on {ASSUMED.api_cpus} CPUs of API servers, the network {ASSUMED.network_ms:g} ms **[a]**. Events are told one "
        "after the "
        "other and not put together, which real API servers and the gateways do under load: the model is on the pessimistic "
        "side. "
        "What it shows is where the time goes: the API server's fan-out to nodes, which is there without gateways as well."
    )


def _controller() -> str:
    rows = []
    for services, gateways in ((100, 10), (CAPTURED, GATEWAYS), (10_000, 50)):
        found = rollout(services, gateways, NODES)
        rows.append([
            f"{services:,}", str(gateways), f"{found.writes:,}", _time(found.seconds), f"{found.bytes_per_s / 1e6:,.0f} MB/s",
        ])  # fmt: skip
    open_rows = [
        [f"{count:,}", _time(fail_open(count).last_s), _time(recapture(count).last_s)] for count in (100, CAPTURED, 10_000)
    ]
    return (
        "## The controller's writes\n\nIt writes at most "
        f"{MEASURED.controller_writes_per_s:.0f} times a second (burst {MEASURED.controller_burst}). A gateway that leaves and "
        "one that comes are two changes of every captured Service's slice, and each slice names all gateways **[r]**:\n\n"
        f"{table(['captured Services', 'gateways', 'writes', 'replacing all takes at least', 'sent to kube-proxies'], rows)}\n\n"
        f"The last column is what API servers send to {NODES:,} kube-proxies at that rate, as JSON; protobuf is about half. "
        "Gateways that are replaced together share writes: what counts is how often the set of ready gateways changes. So "
        "replace "
        "many at a time (maxSurge and maxUnavailable of the DaemonSet), and keep few large gateways instead of many small "
        "ones.\n\n"
        "![fail open](scale/fail-open.svg)\n\n"
        "When all gateways are gone, and when they are back, the last Service follows after **[s]**:\n\n"
        f"{table(['captured Services', 'all direct again', 'all captured again'], open_rows)}\n\n"
        f"Of the first, {MEASURED.fail_open_after_s:.0f} s are patience; the rest is kube-controller-manager, which fills "
        "one Service's "
        f"slices after the other at {ASSUMED.manager_writes_per_s:g} writes a second unless `--kube-api-qps` says otherwise "
        "**[a]**. "
        f"Of the second, {MEASURED.recapture_after_s:.0f} s are patience. Traffic to Services that have not been reached yet "
        "fails: "
        "all gateways at once must not die."
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _breaks(points: dict[str, Any]) -> str:
    found = slopes(points["points"], "worker")
    growth_pods = (4e9 / (WORKERS + 1) - found.base) / found.endpoint
    slow = rollout(CAPTURED, GATEWAYS, NODES)
    return (
        "## What breaks first, and what then\n\nIn this order, for the cluster above:\n\n"
        f"1. **Rolling out gateways one by one**: {slow.writes:,} writes, {_time(slow.seconds)}, and "
        f"{slow.bytes_per_s / 1e6:,.0f} MB/s "
        "from API servers to kube-proxies meanwhile. Then: the rollout waits for the controller, no request fails, other "
        "users of the "
        "API servers feel it. Fewer and larger gateways; replace several at a time.\n"
        f"2. **Failing open**: {_time(fail_open(CAPTURED).last_s)} until the last of {CAPTURED:,} Services is direct. Then: "
        "their "
        "requests fail for so long. Raise `--kube-api-qps` of kube-controller-manager; spread gateways over zones.\n"
        "3. **The start of gateways** when all read everything at once. Then: they are ready later; those that run go on.\n"
        f"4. **Gateway ports**: {len(GATEWAY_PORTS):,} captured Service ports. Then: further Services stay direct and say why.\n"
        f"5. **Memory**: about {growth_pods / 1e6:.1f} million endpoints in 4 GiB. Then: the kernel kills a worker, its "
        "connections "
        "fail, it is replaced; a supervisor that is killed takes its gateway along, others go on.\n"
        f"6. **Changes**: one supervisor follows {1e6 / MEASURED.supervisor_us:,.0f} a second. Then: configuration is older, "
        "which "
        "`acmg_worker_config_age_seconds` and `acmg_watch_stale_seconds` show, and changes are put together."
    )


def _repeat() -> str:
    return (
        "## Repeat it\n\n```\nmake bench-quick                               # cost of a request\n"
        "python -m bench scale-document --measure       # points, then this document; a quiet machine\n"
        "make bench-scale                               # the large point alone, with latencies\n```"
    )


def _propagation_plot() -> str:
    curves = []
    for colour, (gateways, nodes) in zip(_COLOURS, ((5, 500), (GATEWAYS, NODES), (50, NODES)), strict=False):
        points = []
        for changes in (5, 25, 50, 75, 100):
            found = propagate(Cluster(gateways=gateways, workers=WORKERS, watchers=nodes, changes_per_s=changes), seconds=10.0)
            if max(found.busy, found.supervisor_busy) < 1.0:
                points.append((float(changes), found.p99_ms))
        curves.append(Curve(label=f"{nodes:,} nodes, {gateways}", colour=colour, points=points))
    return over_time(Axes(title="p99 until all workers of all gateways have a change (simulated)", x="changes/s", y="ms"), curves)


def _fail_open_plot() -> str:
    counts = (10, 500, 1000, 2000, 4000, 6000, 8000, 10_000)
    curves = [
        Curve(label="direct again", colour=_COLOURS[2], points=[(float(one), fail_open(one).last_s) for one in counts]),
        Curve(label="captured again", colour=_COLOURS[0], points=[(float(one), recapture(one).last_s) for one in counts]),
    ]
    return over_time(Axes(title="Until the last Service has followed (simulated)", x="captured Services", y="s"), curves)


if __name__ == "__main__":
    sys.exit(main())
