# SPDX-License-Identifier: Apache-2.0
"""The sections about memory, and about what a cluster saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.document.savings import Assumptions, savings
from bench.document.sections import Section
from bench.document.words import NAMES, cell, table

if TYPE_CHECKING:
    from bench.document.results import Results

__all__ = ["cluster", "processes", "things"]


def processes(results: Results) -> Section:
    """Memory of the peers."""
    rows = [*results.rows("at_rest"), *results.rows("under_load")]
    body = []
    for row in rows:
        where = "at_rest" if row["state"] == "rest" else "under_load"
        figures = [cell(results.find(where, name, peer=row["peer"])) for name in ("rss_mb", "pss_mb", "worker_rss_mb")]
        body.append([NAMES[row["peer"]], row["state"], str(row["values"]["processes"][0]), *figures])
    head = ["peer", "when", "processes", "resident MB", "proportional MB", "resident MB of one that serves"]
    text = (
        "Resident memory counts pages that processes share once for each; proportional memory divides them. At rest means "
        "before the first request; under load, resident memory is the peak. One look each, so there is no range."
    )
    return Section(title="Memory of the processes", text=f"{text}\n\n{table(head, body)}")


def things(results: Results) -> Section:
    """What one more of something costs."""
    body = []
    for row in results.rows("memory"):
        labels = {name: row[name] for name in ("name", "process")}
        figures = [
            cell(results.find("memory", name, **labels), 2 if name != "peak_mb" else 0)
            for name in ("each_kib", "later_kib", "peak_mb")
        ]
        body.append([row["name"], f"{row['count']:,}", row["process"], *figures])
    head = ["what", "number", "process", "each, KiB", "5 s later, KiB", "process at the peak, MB"]
    text = (
        "Many of one thing in a fresh gateway with one worker: how much resident memory grows, by their number; kernel buffers "
        "are not in it. A route is a VirtualService with a split, timeout and retries; the connection to an endpoint includes "
        "what its last request left behind. `python -m bench memory` measures this alone."
    )
    return Section(title="Memory of connections, routes and endpoints", text=f"{text}\n\n{table(head, body)}")


def cluster(results: Results) -> Section:
    """What a cluster saves."""
    title = "What a cluster of 1,000 pods saves"
    given = Assumptions()
    found = savings(results, given)
    if found is None:
        return Section(title=title, text="Not measured in this run.")
    steps = [
        ["requests/s of the cluster", f"{given.pods:,} pods x {given.requests_per_pod:g}", f"{given.requests:,.0f}"],
        [
            "CPU of sidecars",
            f"{given.requests:,.0f} x {found.envoys_cpu_us:.1f} us (two Envoys)",
            f"{found.sidecar_cores:.2f} cores",
        ],
        ["CPU of gateways", f"{given.requests:,.0f} x {found.gateway_cpu_us:.1f} us", f"{found.gateway_cores:.2f} cores"],
        ["workers", f"{found.gateway_cores:.2f} / {given.busy:.0%} busy, at least {given.replicas}", f"{found.workers}"],
        [
            "memory of sidecars",
            f"{given.pods:,} x {found.sidecar_mb:.1f} MB (proportional, at rest)",
            f"{found.sidecar_gb:.1f} GB",
        ],
        [
            "memory of a worker",
            f"{found.worker_mb:.1f} MB (peak under load) + {given.services} x {found.route_kib:.2f} KiB + "
            f"{given.pods:,} x {found.endpoint_kib:.2f} KiB",
            f"{found.worker_with_objects_mb:.1f} MB",
        ],
        [
            "memory of gateways",
            f"{found.workers} x {found.worker_with_objects_mb:.1f} MB + "
            f"{given.replicas} x {found.supervisor_mb:.1f} MB (supervisors)",
            f"{found.gateway_gb:.2f} GB",
        ],
    ]
    cores, memory = found.sidecar_cores - found.gateway_cores, found.sidecar_gb - found.gateway_gb
    text = (
        f"Assumed: {given.pods:,} pods of {given.services} Services, each pod sends {given.requests_per_pod:g} requests/s, each "
        f"request passes two sidecars or one gateway, gateways are kept at {given.busy:.0%} of their CPU in at least "
        f"{given.replicas} pods. Then gateways {_saved(cores, 'cores')} of CPU and {_saved(memory, 'GB of memory')}. Where there "
        "was a choice the sidecars got the better figure: Envoy alone without agent, configuration, mutual TLS and telemetry "
        "filters, shared pages counted once; the gateways the dearer one: a head of its own for every request, the peak under "
        "load."
    )
    return Section(title=title, text=f"{text}\n\n{table(['step', 'from', 'gives'], steps)}")


def _saved(amount: float, unit: str) -> str:
    return f"save {amount:.2f} {unit}" if amount >= 0 else f"need {-amount:.2f} {unit} more"
