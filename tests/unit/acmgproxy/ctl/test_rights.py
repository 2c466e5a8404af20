# SPDX-License-Identifier: Apache-2.0
"""Facts about asking for rights before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.ctl.cluster import CtlError
from acmgproxy.ctl.rights import Right, demand, missing, to_apply, to_delete, to_list
from tests.unit.acmgproxy.ctl.objects import daemon_set
from tests.unit.acmgproxy.ctl.stub import StubClient

PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def reviewer(*denied: str) -> StubClient:
    def review(body: Any) -> Any:
        return {"status": {"allowed": body["spec"]["resourceAttributes"]["verb"] not in denied}}

    return StubClient({("POST", PATH): [review]})


def test_applying_takes_three_verbs_and_deleting_two() -> None:
    assert {right.verb for right in to_apply([daemon_set()])} == {"get", "create", "patch"}
    assert to_delete([daemon_set()]) == {Right(verb, "apps", "daemonsets", "acmg-system") for verb in ("get", "delete")}
    assert Right("list", "", "namespaces") in to_list()


async def test_only_what_is_missing_is_returned() -> None:
    stub = reviewer("patch")
    found = await missing(stub.client, to_apply([daemon_set()]))
    assert found == [Right("patch", "apps", "daemonsets", "acmg-system")]
    asked = [body["spec"]["resourceAttributes"] for body in stub.asked["POST", PATH]]
    assert {"verb": "get", "group": "apps", "resource": "daemonsets", "namespace": "acmg-system"} in asked
    assert len(asked) == 3


async def test_missing_rights_are_listed_by_resource_with_whom_to_ask() -> None:
    rights = {*to_apply([daemon_set()]), Right("create", "", "nodes")}
    with pytest.raises(CtlError) as caught:
        await demand(reviewer("patch", "create").client, rights, instead=", or else")
    assert str(caught.value) == (
        "these rights are missing, and nothing was changed:\n"
        "  create, patch daemonsets.apps in namespace acmg-system\n"
        "  create nodes in the whole cluster\n"
        "Ask an administrator of the cluster for them (the ClusterRole cluster-admin has them all), or else"
    )
    assert caught.value.code == 2


async def test_nothing_is_said_when_all_are_there() -> None:
    await demand(reviewer().client, to_apply([daemon_set()]), instead="")
