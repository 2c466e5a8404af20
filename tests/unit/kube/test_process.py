# SPDX-License-Identifier: Apache-2.0
"""The fake API server as a process, and the answers to "may I?"."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests.kube.access import PATH, Denied
from tests.unit.kube.kit import SERVICES, Client, service

if TYPE_CHECKING:
    from tests.kube import FakeApiServer

ROOT = Path(__file__).parents[3]


async def test_process_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    config = tmp_path / "config"
    arguments = ["--endpointslices", "--gc", "--token", "secret", "--kubeconfig", str(config)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kube", *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    url, ready = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
    assert ready == "ready"
    written = orjson.loads(config.read_bytes())
    assert (written["clusters"][0]["cluster"]["server"], written["users"][0]["user"]["token"]) == (url, "secret")
    async with Client(url) as client:
        assert (await client.post(SERVICES, service()))[0] == 401
        client.headers["Authorization"] = "Bearer secret"
        assert (await client.post(SERVICES, service()))[0] == 201
        async with asyncio.timeout(5):
            while not await client.names("/apis/discovery.k8s.io/v1/endpointslices"):
                pass
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_everything_is_allowed_but_what_is_denied(api: FakeApiServer, client: Client) -> None:
    api.denied.add(Denied(verb="create", resource="nodes"))

    async def allowed(verb: str) -> bool:
        body = {"spec": {"resourceAttributes": {"verb": verb, "resource": "nodes"}}}
        status, answer = await client.post(PATH, body)
        assert status == 201
        return bool(answer["status"]["allowed"])

    assert await allowed("get")
    assert not await allowed("create")


def test_kubeconfig_goes_into_a_directory_or_file(api: FakeApiServer, tmp_path: Path) -> None:
    assert api.kubeconfig(tmp_path) == tmp_path / "kubeconfig"
    file = api.kubeconfig(tmp_path / "other", namespace="shop")
    context = orjson.loads(file.read_bytes())["contexts"][0]["context"]
    assert context["namespace"] == "shop"
