# SPDX-License-Identifier: Apache-2.0
"""Real `acmgctl bug-report` processes: the archives are searched for secrets that were planted."""

from __future__ import annotations

import asyncio
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.acmgctl import Acmgctl, capture_by_hand, gateway_node, web_service
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.interop.gateway import Gateway
    from tests.interop.upstream import Upstream

SECRET = "hunter2-swordfish"


def rules(name: str) -> dict[str, Any]:
    headers = {"request": {"set": {"authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "x-version": "kept"}}}
    match = [{"headers": {"cookie": {"exact": SECRET}}}]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": f'{{"a":"{SECRET}"}}'},
        },
        "spec": {"hosts": [name], "http": [{"match": match, "headers": headers, "route": [{"destination": {"host": name}}]}]},
    }


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        files = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


@pytest.mark.timeout(120)
async def test_a_report_of_a_cluster(tmp_path: Path) -> None:
    async with FakeApiServer(endpointslices=True, gc=True, workloads=True, kubelet=True) as api:
        acmgctl = Acmgctl(api.kubeconfig(tmp_path))
        gateway_node(api)
        assert (await acmgctl("install", "-y", "--timeout", "30s")).code == 0
        web_service(api, "web")
        capture_by_hand(api, "web")
        api.put(rules("web"))
        plain = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "acmg-system"}}
        api.put({**plain, "stringData": {"password": SECRET}})
        deployment = api.get("Deployment", "acmg-system", "acmg-controller")
        assert deployment is not None
        deployment["spec"]["template"]["spec"]["containers"][0].setdefault("env", []).append({"name": "E", "value": SECRET})
        api.put(deployment)
        archive = tmp_path / "report.tar.gz"
        ended = await acmgctl("bug-report", "--output", str(archive))
        assert ended.code == 0, ended.err
        found = contents(archive)
        asked = {request.path for request in api.requests if request.user_agent.startswith("acmgctl")}
    assert {"report.txt", "version.json", "status.json", "findings.json"} <= found.keys()
    assert {f"objects/{name}.yaml" for name in ("installed", "services", "virtualservices", "endpointslices")} <= found.keys()
    assert b"x-version: kept" in found["objects/virtualservices.yaml"]
    assert b"acmg-controller" in found["objects/installed.yaml"]
    assert [name for name, data in found.items() if SECRET.encode() in data] == []
    assert not [path for path in asked if "/secrets" in path], "secrets are not even asked for"


async def test_a_report_of_one_gateway(gateway: Gateway, make_upstream: Callable[..., Upstream], tmp_path: Path) -> None:
    gateway.add_service("web", {"v1": [make_upstream()]})
    gateway.apply(rules("web"))
    await asyncio.to_thread(gateway.start)
    assert SECRET in gateway.get("/config"), "it is there"
    archive = tmp_path / "report.tar.gz"
    ended = await Acmgctl(tmp_path / "none")("bug-report", "--gateway", gateway.admin, "-o", str(archive))
    assert ended.code == 0, ended.err
    found = contents(archive)
    assert {"gateway/ready.txt", "gateway/listeners.json", "gateway/config.json", "gateway/metrics.txt"} <= found.keys()
    assert b"x-version" in found["gateway/config.json"]
    assert [name for name, data in found.items() if SECRET.encode() in data] == []
