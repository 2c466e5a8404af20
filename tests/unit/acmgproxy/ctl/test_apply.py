# SPDX-License-Identifier: Apache-2.0
"""Facts about applying one object."""

from __future__ import annotations

import copy

import pytest

from acmgproxy.ctl.apply import Outcome, apply, compare
from acmgproxy.ctl.cluster import CtlError
from discovery.kube import ApiError
from tests.unit.acmgproxy.ctl.objects import daemon_set
from tests.unit.acmgproxy.ctl.stub import StubClient

PATH = "/apis/apps/v1/namespaces/{}/daemonsets/acmg-gateway"
OURS = PATH.format("acmg-system")
BINDING = {"kind": "RoleBinding", "metadata": {"name": "r", "namespace": "acmg-system"}}
BINDING_PATH = "/apis/rbac.authorization.k8s.io/v1/namespaces/acmg-system/rolebindings/r"


def test_book_keeping_and_status_are_no_change() -> None:
    before, after = daemon_set(), daemon_set(ready=0, generation=9)
    after["metadata"] |= {"resourceVersion": "5", "managedFields": [1], "uid": "u"}
    assert compare(None, after) is Outcome.CREATED
    assert compare(before, after) is Outcome.UNCHANGED
    after["spec"]["minReadySeconds"] = 3
    assert compare(before, after) is Outcome.CONFIGURED


async def test_a_dry_run_says_what_would_become_of_it() -> None:
    stub = StubClient({("DRY", OURS): [daemon_set()], ("GET", OURS): [daemon_set()]})
    assert (await apply(stub.client, daemon_set(), dry_run=True)).outcome is Outcome.UNCHANGED
    assert not stub.asked["APPLY", OURS]


async def test_without_its_namespace_an_object_is_tried_in_another_one_and_not_changed_by_that() -> None:
    wanted = daemon_set()
    stub = StubClient({("DRY", PATH.format("default")): [copy.deepcopy]})
    applied = await apply(stub.client, wanted, dry_run=True, stand_in=True)
    assert applied.outcome is Outcome.CREATED
    assert applied.note == "checked in namespace default, acmg-system does not exist yet"
    assert wanted == daemon_set()


async def test_a_refused_object_is_named_with_the_reason() -> None:
    stub = StubClient({("DRY", OURS): [ApiError(422, "Invalid", "spec.x: too long")]})
    with pytest.raises(CtlError, match=r"^DaemonSet acmg-system/acmg-gateway: .*spec\.x: too long") as caught:
        await apply(stub.client, daemon_set(), dry_run=True)
    assert caught.value.code == 2


@pytest.mark.parametrize("message", ["the server could not find the requested resource", "404 page not found"])
async def test_a_kind_that_the_cluster_lacks_is_told_as_such(message: str) -> None:
    stub = StubClient({("DRY", OURS): [ApiError(404, "NotFound", message)]})
    with pytest.raises(CtlError, match=r"the cluster knows no daemonsets\.apps"):
        await apply(stub.client, daemon_set(), dry_run=True)


async def test_a_binding_whose_role_is_not_there_yet_cannot_be_checked_and_that_is_said() -> None:
    refusal = ApiError(404, "NotFound", 'roles.rbac.authorization.k8s.io "r" not found')
    stub = StubClient({("DRY", BINDING_PATH): [refusal], ("APPLY", BINDING_PATH): [refusal]})
    assert "role that it grants does not exist yet" in (await apply(stub.client, BINDING, dry_run=True)).note
    with pytest.raises(CtlError, match="not found"):
        await apply(stub.client, BINDING, dry_run=False)
