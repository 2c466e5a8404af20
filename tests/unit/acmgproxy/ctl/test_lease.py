# SPDX-License-Identifier: Apache-2.0
"""Facts about holding the controllers' Lease."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from acmgproxy.ctl import lease
from acmgproxy.ctl.cluster import CtlError
from acmgproxy.ctl.lease import held_lease
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.stub import StubClient

LIST = "/apis/coordination.k8s.io/v1/namespaces/acmg-system/leases"
PATH = f"{LIST}/acmg-controller"


def held_by(holder: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "acmg-controller", "resourceVersion": "4"}, "spec": {"holderIdentity": holder, **spec}}


async def held(stub: StubClient) -> list[str]:
    told: list[str] = []
    async with held_lease(stub.client, told.append):
        pass
    return told


async def test_a_lease_that_nobody_holds_is_taken_without_waiting() -> None:
    for answers in ([held_by("")], [held_by("acmgctl-x-1")], [ApiError(404, "NotFound", "x")]):
        stub = StubClient({("GET", PATH): answers, ("PUT", PATH): [{}], ("POST", LIST): [{}]})
        assert await held(stub) == []
        (body,) = stub.asked["PUT", PATH] or stub.asked["POST", LIST]
        assert body["spec"]["holderIdentity"].startswith("acmgctl-")
        assert body["spec"]["leaseDurationSeconds"] == 15
        assert body["spec"]["renewTime"].endswith("Z")


async def test_a_controller_that_works_is_given_its_time_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        if asyncio.current_task() is main:
            slept.append(seconds)
        else:
            await asyncio.Event().wait()

    main = asyncio.current_task()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    before = held_by("acmg-controller-a", leaseDurationSeconds=12, leaseTransitions=2)
    stub = StubClient({("GET", PATH): [before], ("PUT", PATH): [{}]})
    assert await held(stub) == ["taking over from the controller acmg-controller-a, which may work for another 12 s"]
    assert slept == [12.0]
    (body,) = stub.asked["PUT", PATH]
    assert body["metadata"]["resourceVersion"] == "4"
    assert body["spec"]["leaseTransitions"] == 3


async def test_it_is_renewed_while_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_S", 0.0)
    stub = StubClient({("GET", PATH): [held_by("")], ("PUT", PATH): [{}, ApiError(503, "Unavailable", "x"), {}]})
    async with held_lease(stub.client, lambda _text: None):
        async with asyncio.timeout(5):
            while len(stub.asked["PUT", PATH]) < 4:
                await asyncio.sleep(0)
    count = len(stub.asked["PUT", PATH])
    await asyncio.sleep(0)
    assert len(stub.asked["PUT", PATH]) == count


async def test_a_race_for_it_is_run_again_and_not_for_ever() -> None:
    race = ApiError(409, "Conflict", "x")
    stub = StubClient({("GET", PATH): [held_by("")], ("PUT", PATH): [race, {}]})
    assert await held(stub) == []
    with pytest.raises(CtlError, match="changes all the time"):
        await held(StubClient({("GET", PATH): [held_by("")], ("PUT", PATH): [race]}))


async def test_without_the_namespace_there_is_nothing_to_hold_but_other_refusals_count() -> None:
    assert await held(StubClient({})) == []
    with pytest.raises(ApiError):
        await held(StubClient({("GET", PATH): [held_by("")], ("PUT", PATH): [ApiError(403, "Forbidden", "x")]}))
