# SPDX-License-Identifier: Apache-2.0
"""The machine of a run, and which of its CPUs do what."""

from __future__ import annotations

import os
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cpus", "describe", "proxy_cpus", "split_cpus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpus:
    """CPUs of the two sides, of all `usable` ones. With one CPU both are empty: nothing is pinned, and latencies say little."""

    load: frozenset[int]
    proxy: frozenset[int]
    usable: frozenset[int] = frozenset()


def split_cpus() -> Cpus:
    """Choose one CPU for load and upstream and another, on another core where there is one, for the proxies."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cpus(load=frozenset(), proxy=frozenset())
    load = usable[0]
    proxy = next((cpu for cpu in usable[1:] if _core(cpu) != _core(load)), usable[1])
    return Cpus(load=frozenset({load}), proxy=frozenset({proxy}), usable=frozenset(usable))


def proxy_cpus(cpus: Cpus, count: int) -> frozenset[int]:
    """Choose CPUs for so many workers: those that the load does not need first."""
    ordered = sorted(cpus.usable, key=lambda cpu: (cpu in cpus.load, cpu not in cpus.proxy, cpu))
    return frozenset(ordered[:count]) if cpus.proxy else frozenset()


def describe(cpus: Cpus) -> dict[str, object]:
    """Return what a reader has to know of the machine to judge the numbers."""
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "load_cpus": sorted(cpus.load),
        "proxy_cpus": sorted(cpus.proxy),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "kernel": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_optimized": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _core(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
