# SPDX-License-Identifier: Apache-2.0
"""A kubelet stub: runs pods as programs on hosts of their own and tells the API server what becomes of them.

Owns a pod's life: object, host, program, probe, end. It does what Kubernetes documents of a pod's termination: the object gets
its deletionTimestamp at once, the program runs on through the preStop hook (a pause here), gets SIGTERM, and SIGKILL when the
grace period is over; only then is the object gone. Probing goes on meanwhile, since that is where `serving` comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.net import Host, Network, Program
    from tests.kube import FakeApiServer

__all__ = ["Kubelet", "Pod", "PodTemplate"]

PROBE_INTERVAL_S = 0.5
_PROBE_TIMEOUT_S = 1.0
_NODE = "node-1"


@dataclass(frozen=True, kw_only=True)
class PodTemplate:
    """What to run.

    Args:
        command: the program and its arguments, given the pod's name and address.
        labels: of the pod.
        namespace: of the pod.
        probe_port: port of the readiness probe.
        probe_path: path of the readiness probe.
        pre_stop_s: pause before SIGTERM.
        grace_s: time from deletion to SIGKILL, the pause included.
        environment: what the program's environment has beside the tests' own, given the pod's name and address.
    """

    command: Callable[[str, str], tuple[str, ...]]
    labels: dict[str, str]
    namespace: str = "default"
    probe_port: int = 8080
    probe_path: str = "/ready"
    pre_stop_s: float = 1.0
    grace_s: float = 30.0
    environment: Callable[[str, str], dict[str, str]] = field(default=lambda _name, _address: {})


class Pod:
    """One pod."""

    def __init__(self, name: str, template: PodTemplate, host: Host) -> None:
        self.name = name
        self.template = template
        self.host = host
        self.is_ready = False
        self.lives = 0
        self.program: Program | None = None
        self.prober: asyncio.Task[None] | None = None
        self.exit_codes: list[int] = []
        self.was_killed = False
        """Whether the grace period ended before the program did."""

    def __repr__(self) -> str:
        return f"<Pod {self.name} {self.address} ready={self.is_ready} {self.program}>"

    @property
    def address(self) -> str:
        """The pod's IP."""
        return self.host.address


class Kubelet:
    """All pods of the cluster. Use as an asynchronous context manager."""

    def __init__(self, api: FakeApiServer, network: Network, logs: Path) -> None:
        self._api = api
        self._network = network
        self._logs = logs
        self.pods: dict[str, Pod] = {}

    def __repr__(self) -> str:
        return f"<Kubelet {list(self.pods.values())}>"

    async def __aenter__(self) -> Kubelet:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S))
        return self

    async def __aexit__(self, *_error: object) -> None:
        for pod in list(self.pods.values()):
            await self._stop_probing(pod)
            if pod.program is not None:
                await pod.program.kill()
        await self._session.close()

    async def run(self, name: str, template: PodTemplate) -> Pod:
        """Create a pod and start its program; it is ready once its probe says so."""
        pod = Pod(name, template, self._network.add(name))
        self.pods[name] = pod
        self._api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": template.namespace, "labels": dict(template.labels)},
                "spec": {
                    "nodeName": _NODE,
                    "terminationGracePeriodSeconds": int(template.grace_s),
                    "containers": [{"name": "main", "image": "none"}],
                },
                "status": {"phase": "Pending"},
            }
        )
        await self.start(pod)
        return pod

    async def start(self, pod: Pod) -> None:
        """Start a pod's program, for the first time or again after `crash`."""
        name, address = pod.name, pod.address
        pod.lives += 1
        pod.program = await pod.host.start(
            *pod.template.command(name, address),
            log=self._logs / f"{name}.log",
            environment=pod.template.environment(name, address),
        )
        self._report(pod, ready=False)
        pod.prober = asyncio.create_task(self._probe(pod))

    async def crash(self, pod: Pod, *, is_noticed: bool) -> None:
        """End a pod's program with SIGKILL.

        Args:
            pod: the pod.
            is_noticed: the API server hears of it, as from a kubelet that lives on. Else the node died with the pod, and the
                object says "ready" for ever.
        """
        assert pod.program is not None
        await self._stop_probing(pod)
        await pod.program.kill()
        if is_noticed:
            self._report(pod, ready=False)

    async def delete(self, pod: Pod) -> None:
        """Delete a pod as a rollout does, and wait for its end."""
        assert pod.program is not None
        obj = self._read(pod)
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        obj["metadata"] |= {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": int(pod.template.grace_s)}
        self._api.put(obj)
        await asyncio.sleep(pod.template.pre_stop_s)
        pod.program.terminate()
        try:
            async with asyncio.timeout(pod.template.grace_s - pod.template.pre_stop_s):
                code = await pod.program.wait()
        except TimeoutError:
            pod.was_killed = True
            await pod.program.kill()
            code = await pod.program.wait()
        pod.exit_codes.append(code)
        await self._stop_probing(pod)
        self._api.delete("Pod", pod.template.namespace, pod.name)
        del self.pods[pod.name]
        self._network.remove(pod.host)

    async def _probe(self, pod: Pod) -> None:
        url = f"http://{pod.address}:{pod.template.probe_port}{pod.template.probe_path}"
        while True:
            ready = False
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.get(url) as response:
                    ready = response.status == 200
            if ready != pod.is_ready:
                self._report(pod, ready=ready)
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _stop_probing(self, pod: Pod) -> None:
        if pod.prober is not None:
            pod.prober.cancel()
            await asyncio.gather(pod.prober, return_exceptions=True)
            pod.prober = None

    def _report(self, pod: Pod, *, ready: bool) -> None:
        pod.is_ready = ready
        obj = self._read(pod)
        status = "True" if ready else "False"
        obj["status"] = {
            "phase": "Running",
            "hostIP": "10.244.0.1",
            "podIP": pod.address,
            "podIPs": [{"ip": pod.address}],
            "conditions": [{"type": "Ready", "status": status}, {"type": "ContainersReady", "status": status}],
        }
        self._api.put(obj)

    def _read(self, pod: Pod) -> dict[str, Any]:
        obj = self._api.get("Pod", pod.template.namespace, pod.name)
        assert obj is not None, pod
        copy = dict(obj)
        copy["metadata"] = dict(obj["metadata"])
        return copy
