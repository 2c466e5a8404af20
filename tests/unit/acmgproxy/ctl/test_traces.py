# SPDX-License-Identifier: Apache-2.0
"""Facts about what capture leaves behind and how it is found."""

from __future__ import annotations

from typing import Any

from acmgproxy.controller.steps import next_writes
from acmgproxy.ctl.traces import collect, release_views
from tests.unit.acmgproxy.ctl.objects import service, slice_of

SHADOW_LABELS = {"acmg.io/shadow": "true", "acmg.io/shadow-of": "hello"}


def shadow() -> dict[str, Any]:
    made = service("hello-acmg", labels=SHADOW_LABELS, annotations={"acmg.io/gateway-ports": '{"5000":20001}'}, cluster_ip="None")
    made["spec"]["selector"] = {"app": "hello"}
    made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Service", "name": "hello", "uid": "uid-hello"}]
    return made


GATEWAY_SLICE = slice_of("hello", "10.9.0.1", ours="hello-acmg-gateway-ipv4", port=20001)
KEY = ("default", "hello")


def reasons(services: list[Any], slices: list[Any], *, lingering: bool = False) -> list[str]:
    found = release_views(services, slices, going=(), lingering={KEY} if lingering else (), linger_s=5.0)
    return [write.reason for write in next_writes(found.views[KEY]).writes]


def test_untouched_services_and_their_slices_are_no_traces() -> None:
    assert collect([service()], [slice_of("hello", "10.1.0.1")]) == {}


def test_each_kind_of_trace_is_found() -> None:
    assert collect([service(captured=True)], [])[KEY].any
    assert collect([shadow()], [])[KEY].any
    assert collect([], [GATEWAY_SLICE])[KEY].any
    status_only = collect([service(annotations={"acmg.io/status": "refused: x"})], [])[KEY]
    assert not status_only.any


def test_nothing_of_a_captured_service_is_deleted_before_its_own_slices_are_full() -> None:
    real = slice_of("hello-acmg", "10.1.0.1")
    assert reasons([service(captured=True), shadow()], [GATEWAY_SLICE, slice_of("hello"), real])[0] == "key-removed"
    assert "slice-deleted" not in reasons([service(captured=True), shadow()], [GATEWAY_SLICE, slice_of("hello"), real])
    assert "slice-deleted" not in reasons([service(), shadow()], [GATEWAY_SLICE, slice_of("hello"), real])
    assert reasons([service(), shadow()], [GATEWAY_SLICE, slice_of("hello", "10.1.0.1"), real]) == ["slice-deleted"]


def test_the_shadow_stays_while_a_node_may_still_send_connections_to_gateways() -> None:
    slices = [slice_of("hello", "10.1.0.1"), slice_of("hello-acmg", "10.1.0.1")]
    assert reasons([service(), shadow()], slices, lingering=True) == []
    assert reasons([service(), shadow()], slices) == ["shadow-deleted"]


def test_the_status_goes_last() -> None:
    assert reasons([service(annotations={"acmg.io/status": "captured"})], []) == ["status"]


def test_what_is_left_of_a_deleted_service_is_orphaned_and_that_of_a_dying_namespace_is_left_alone() -> None:
    found = release_views([shadow()], [GATEWAY_SLICE], going=(), lingering=(), linger_s=5.0)
    assert [one["metadata"]["name"] for one in found.orphans] == ["hello-acmg-gateway-ipv4", "hello-acmg"]
    assert not found.views
    assert release_views([shadow()], [GATEWAY_SLICE], going={"default"}, lingering=(), linger_s=5.0) == ({}, [])
