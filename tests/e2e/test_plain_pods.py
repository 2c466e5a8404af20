# SPDX-License-Identifier: Apache-2.0
"""Without any gateway: the cluster that the other tests stand on loses no request by itself, and its clients see those that fail.

What fails here would be blamed on gateways elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.e2e

ADDRESS, PORT = "10.96.0.10", 5000


async def test_rolling_pods_lose_no_request(cluster: Cluster) -> None:
    cluster.service("hello", ADDRESS, [{"name": "http", "port": PORT, "targetPort": 8080}])
    pods = await cluster.deploy(cluster.template("hello"), 2)
    await cluster.until(lambda: len(cluster.leads_to(ADDRESS, PORT)) == 2, "rules")
    async with cluster.load(ADDRESS, PORT) as load:
        await load.requests(500)
        successors = await cluster.roll(pods)
        report = await load.requests(500)
    assert load.total.failures == []
    assert set(report.pods) == {pod.name for pod in successors}
    assert set(load.total.peers) == {host.address for host in cluster.clients}
    assert all(code == 0 and not pod.was_killed for pod in pods for code in pod.exit_codes)


async def test_clients_see_what_a_killed_pod_loses(cluster: Cluster) -> None:
    cluster.service("hello", ADDRESS, [{"name": "http", "port": PORT, "targetPort": 8080}])
    pods = await cluster.deploy(cluster.template("hello"), 2)
    await cluster.until(lambda: len(cluster.leads_to(ADDRESS, PORT)) == 2, "rules")
    async with cluster.load(ADDRESS, PORT) as load:
        await load.requests(300)
        await cluster.kubelet.crash(pods[0], is_noticed=False)
        await load.until(lambda report: bool(report.failures), what="a failure")
    assert all("Connection" in failure["error"] or "RequestError" in failure["error"] for failure in load.total.failures)


async def test_a_service_without_endpoints_is_refused(cluster: Cluster) -> None:
    cluster.service("hello", ADDRESS, [{"name": "http", "port": PORT, "targetPort": 8080}])
    pods = await cluster.deploy(cluster.template("hello"), 1)
    await cluster.until(lambda: cluster.leads_to(ADDRESS, PORT), "rules")
    async with cluster.load(ADDRESS, PORT, users="open-GET=4") as load:
        await load.requests(50)
        assert load.total.failures == []
        cluster.change_service("hello", lambda service: service["spec"].update(selector={"app": "nobody"}))
        await cluster.until(lambda: not cluster.leads_to(ADDRESS, PORT), "no rules")
        await load.until(lambda report: report.requests > 0 and len(report.failures) == report.requests, what="refusal")
    assert {failure["error"].partition(":")[0] for failure in load.total.failures} == {"ConnectionRefusedError"}
    assert pods[0].is_ready
