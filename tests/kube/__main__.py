# SPDX-License-Identifier: Apache-2.0
"""The fake API server as a process: `python -m tests.kube --port 8001`.

It prints its address and `ready` once it listens, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import orjson
import uvloop

from tests.kube.server import FakeApiServer

__all__: list[str] = []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.kube", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--endpointslices", action="store_true", help="run the EndpointSlice controller")
    parser.add_argument("--gc", action="store_true", help="run the garbage collector")
    parser.add_argument("--workloads", action="store_true", help="run the controllers of Deployments and DaemonSets")
    parser.add_argument("--kubelet", action="store_true", help="give every Pod a node, an address and a status")
    parser.add_argument("--allow-loopback", action="store_true", help="let EndpointSlices hold loopback addresses")
    parser.add_argument("--load", type=Path, metavar="FILE", help="put these objects first: JSON, one object per line")
    parser.add_argument("--versions-from", type=int, default=0, metavar="N", help="begin with this version and know none before")
    parser.add_argument("--token", help="bearer token that requests must carry")
    parser.add_argument("--kubeconfig", type=Path, help="write a kubeconfig here")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = FakeApiServer(
        port=arguments.port,
        endpointslices=arguments.endpointslices,
        gc=arguments.gc,
        workloads=arguments.workloads,
        kubelet=arguments.kubelet,
        allow_loopback=arguments.allow_loopback,
        token=arguments.token,
    )
    if arguments.versions_from:
        api.store.skip(arguments.versions_from)
    if arguments.load:
        for line in arguments.load.read_bytes().splitlines():
            api.put(orjson.loads(line))
    if arguments.versions_from:
        api.faults.compact()
    async with api:
        if arguments.kubeconfig:
            api.kubeconfig(arguments.kubeconfig)
        print(f"{api.url} ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve(_arguments()))
