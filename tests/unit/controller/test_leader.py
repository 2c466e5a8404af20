# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from typing import Any

import pytest

from acmgproxy.controller.leader import LEASE_S, RENEW_DEADLINE_S, Elector
from discovery.kube import ApiError


class OneLease:
    """An API server with nothing but the Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.error: ApiError | None = None
        self.version = 0

    async def get(self, _path: str) -> Any:
        if self.error is not None:
            raise self.error
        if self.lease is None:
            raise ApiError(404, "NotFound", "no lease")
        return copy.deepcopy(self.lease)

    async def create(self, _path: str, body: Any) -> Any:
        assert self.lease is None
        return self._store(body)

    async def replace(self, _path: str, body: Any) -> Any:
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "changed")
        return self._store(body)

    def _store(self, body: Any) -> Any:
        self.version += 1
        self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": str(self.version)}}
        return self.lease


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self.api = OneLease()

    def elector(self, identity: str) -> Elector:
        api: Any = self.api
        return Elector(api, namespace="acmg-system", identity=identity, clock=lambda: self.now, on_change=lambda _leads: None)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def attempt(elector: Elector, now: float) -> bool:
    await elector._try(now)
    return elector.is_leader


async def test_the_first_leads_and_the_second_waits(stage: Stage) -> None:
    one, two = stage.elector("one"), stage.elector("two")
    assert await attempt(one, stage.now)
    assert not await attempt(two, stage.now)
    stage.now += RENEW_DEADLINE_S - 0.1
    assert await attempt(one, stage.now)
    stage.now += LEASE_S - 0.1
    assert not await attempt(two, stage.now)  # the renewal was seen only now
    stage.now += LEASE_S
    assert await attempt(two, stage.now)
    assert not one.is_leader
    assert stage.api.lease is not None
    assert stage.api.lease["spec"]["leaseTransitions"] == 1


async def test_who_cannot_renew_stops_to_lead_before_others_may_begin(stage: Stage) -> None:
    one, two = stage.elector("one"), stage.elector("two")
    assert await attempt(one, stage.now)
    assert not await attempt(two, stage.now)
    stage.now += RENEW_DEADLINE_S
    assert not one.is_leader
    assert not await attempt(two, stage.now)


async def test_two_that_want_an_old_lease_do_not_both_get_it(stage: Stage) -> None:
    one, two = stage.elector("one"), stage.elector("two")
    assert await attempt(stage.elector("gone"), stage.now)
    await attempt(one, stage.now)
    await attempt(two, stage.now)
    stage.now += LEASE_S
    assert await attempt(one, stage.now)
    assert not await attempt(two, stage.now)


async def test_a_lease_that_was_given_back_is_taken_at_once(stage: Stage) -> None:
    one, two = stage.elector("one"), stage.elector("two")
    assert await attempt(one, stage.now)
    assert not await attempt(two, stage.now)
    await one.release()
    assert not one.is_leader
    assert await attempt(two, stage.now)


async def test_errors_are_the_callers_and_change_nothing(stage: Stage) -> None:
    one = stage.elector("one")
    assert await attempt(one, stage.now)
    stage.api.error = ApiError(500, "InternalError", "sick")
    with pytest.raises(ApiError):
        await one._try(stage.now)
    assert one.is_leader
