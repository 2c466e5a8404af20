# SPDX-License-Identifier: Apache-2.0
"""Latency while the configuration changes all the time, beside latency while it does not.

Changes come the way a user's do: files are replaced, the supervisor notices, translates and sends every worker the difference.
They touch the Service under load (its weights, its endpoints, one of which comes and goes) and others: routes of further hosts,
endpoints of further Services. Each object changes a few times a second, so that changes are not lost in one another; how many
versions of the configuration were published is in the result. Quiet and churn alternate, and supervisor and worker share a CPU.
"""

from __future__ import annotations

import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING

from bench.net import free_address
from bench.openloop import Offering
from bench.peers.gateway import Gateway, manifest, table_manifest
from bench.suite.ground import Ground, open_burst, warm_up
from bench.suite.table import Row
from bench.upstream import start_upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.net import Address
    from bench.peers import Running
    from bench.suite.plan import Plan

__all__ = ["churn"]

_OTHERS = 24
"""Further routes, and as many further Services: with those of the Service under load 50 objects change."""

_BYSTANDER = """\
apiVersion: v1
kind: Service
metadata: {{name: bystander-{number}, namespace: default}}
spec:
  clusterIP: 10.96.1.{number}
  ports:
  - {{name: http, port: 80}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bystander-{number}, namespace: default, labels: {{kubernetes.io/service-name: bystander-{number}}}}}
addressType: IPv4
ports:
- {{name: http, port: 8080, protocol: TCP}}
endpoints:
- {{addresses: [10.0.{third}.{number}], conditions: {{ready: true}}}}
"""

_MORE = """\
apiVersion: v1
kind: Pod
metadata: {{name: helloworld-v1-more, namespace: default, labels: {{app: helloworld, version: v1}}}}
spec: {{serviceAccountName: helloworld}}
status: {{podIP: {address[0]}, phase: Running}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: helloworld-v1-more, namespace: default, labels: {{kubernetes.io/service-name: helloworld}}}}
addressType: IPv4
ports:
- {{name: http, port: {address[1]}, protocol: TCP}}
endpoints:
- addresses: [{address[0]}]
  conditions: {{ready: {ready}, serving: {ready}, terminating: false}}
  targetRef: {{kind: Pod, name: helloworld-v1-more, namespace: default}}
"""


class _Changes:
    """Files that change: each has two texts, and is replaced by the other one when its turn comes."""

    def __init__(self, spare: Address) -> None:
        self.texts = {"more.yaml": (_more(spare, "false"), _more(spare, "true"))}
        for number in range(_OTHERS):
            routes = (table_manifest([number], weight=80), table_manifest([number], weight=81))
            self.texts[f"route-{number}.yaml"] = routes
            self.texts[f"bystander-{number}.yaml"] = (_bystander(number, 0), _bystander(number, 1))

    def of_service(self, running: Running, upstreams: tuple[Address, Address]) -> None:
        """Have the Service's own routes change too: their weights move between 90 to 10 and 85 to 15."""
        text = manifest(running.address, upstreams)
        self.texts["helloworld.yaml"] = (text, text.replace("weight: 90", "weight: 85").replace("weight: 10", "weight: 15"))

    def make(self, directory: Path, *, per_second: int, seconds: float) -> int:
        """Make changes at a steady rate; return how many."""
        begin = time.monotonic()
        turns = cycle([(name, texts[turn]) for turn in (1, 0) for name, texts in sorted(self.texts.items())])
        aside = directory / ".next"
        for number, (name, text) in zip(count(), turns, strict=False):
            due = begin + number / per_second
            if due >= begin + seconds:
                return number
            time.sleep(max(0.0, due - time.monotonic()))  # noqa: TID251 - the rate is what is asked for
            aside.write_text(text)
            aside.rename(directory / name)
        raise AssertionError  # turns do not end


def _more(spare: Address, ready: str) -> str:
    return _MORE.format(address=spare, ready=ready)


def _bystander(number: int, third: int) -> str:
    return _BYSTANDER.format(number=number, third=third)


def churn(ground: Ground, plan: Plan, step: Callable[[str], None]) -> list[Row]:
    """Latency at a fixed rate, quiet and while routes and endpoints change."""
    rows = {kind: Row(peer="acmgproxy", labels={"kind": kind, "rate": plan.churn_rate}) for kind in ("quiet", "churn")}
    offering = Offering(rate=plan.churn_rate)
    with ExitStack() as stack:
        site = replace(ground.site_on(ground.site.cpus, "churn"), stack=stack)
        spare = free_address()
        load_site = replace(ground.load_site, stack=stack, upstreams=(spare, free_address(spare[1])))
        start_upstream(load_site, "upstream-spare")
        changes = _Changes(spare)
        running = Gateway(files={name: texts[0] for name, texts in changes.texts.items()}).start(site)
        changes.of_service(running, site.upstreams)
        step("starting a gateway whose configuration will change")
        warm_up(running)
        directory = Path(running.details["directory"])
        made: list[int] = []

        def change() -> None:
            made.append(changes.make(directory, per_second=plan.churn_changes, seconds=plan.churn_seconds))

        for number in range(1, plan.churn_slices + 1):
            for kind, row in rows.items():
                step(f"{number} of {plan.churn_slices}: {plan.churn_seconds:.0f} s {kind}")
                before = _version(running)
                figures = open_burst(running, offering, seconds=plan.churn_seconds, meanwhile=change if kind == "churn" else None)
                figures["versions"] = (_version(running) - before) / plan.churn_seconds
                figures["changes"] = made[-1] / plan.churn_seconds if kind == "churn" else 0
                row.add(figures)
    return list(rows.values())


def _version(running: Running) -> float:
    """Return the number of the configuration that is published."""
    with urllib.request.urlopen(f"{running.details['admin']}/metrics", timeout=10) as answer:  # noqa: S310 - our own address
        for line in answer.read().decode().splitlines():
            if line.startswith("acmg_config_version "):
                return float(line.split()[1])
    msg = "the gateway tells no acmg_config_version"
    raise LookupError(msg)
