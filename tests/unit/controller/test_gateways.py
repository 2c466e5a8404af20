# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from acmgproxy.controller.gateways import UNBOUND_AFTER_S, FailOpen, GatewayState, Listener, ListenerEntry, unready_text
from tests.unit.controller.objects import make_pod

HELLO = Listener("default/hello", 80, 20000, "IPv4")


def entry(*, bound: bool = True, endpoints: int = 2) -> ListenerEntry:
    error = None if bound else "in use"
    return ListenerEntry(
        address="10.1.0.1", port=20000, bound=bound, error=error, service="default/hello", service_port=80, endpoints=endpoints
    )


def test_a_gateway_is_ready_once_its_pod_and_itself_say_so() -> None:
    state = GatewayState(make_pod(), 0.0)
    assert not state.is_known
    assert not state.snapshot().is_ready
    state.answered(1.0, "", [entry()])
    assert state.snapshot().is_ready
    assert state.snapshot().bound == {HELLO: 2}
    state.pod = make_pod(ready="False")
    assert state.snapshot().unready_because == "its pod is not ready"
    state.pod = make_pod(deletionTimestamp="2026-11-23T00:00:00Z")
    assert state.snapshot().unready_because == "its pod is terminating"


def test_one_missed_probe_is_an_accident_and_two_are_an_absence() -> None:
    state = GatewayState(make_pod(), 0.0)
    state.answered(1.0, "", [entry()])
    state.missed("timeout")
    assert state.snapshot().is_ready
    state.missed("timeout")
    assert unready_text([state.snapshot()]) == "gw: timeout"
    assert state.snapshot().bound == {}


def test_a_gateway_that_says_it_is_not_ready_is_believed_at_once() -> None:
    state = GatewayState(make_pod(), 0.0)
    state.answered(1.0, "", [entry()])
    state.answered(2.0, "not ready: draining", None)
    assert not state.snapshot().is_ready
    assert state.last_success == 1.0


def test_a_listener_counts_as_bound_for_a_while_after_it_is_not() -> None:
    state = GatewayState(make_pod(), 0.0)
    state.answered(1.0, "", [entry()])
    state.answered(2.0, "", [entry(bound=False)])
    assert state.snapshot().bound == {HELLO: 2}
    state.answered(2.0 + UNBOUND_AFTER_S, "", None)
    assert state.snapshot().bound == {}
    assert state.snapshot().errors == {HELLO: "in use"}
    state.answered(9.0, "", [entry(endpoints=0)])
    assert state.snapshot().bound == {HELLO: 0}
    state.answered(10.0, "", [])
    assert state.snapshot().bound == {}


def test_a_gateway_tells_for_whom_it_listens() -> None:
    state = GatewayState(make_pod(), 0.0)
    state.answered(1.0, "", [entry(), ListenerEntry(port=15080, bound=True)])
    assert state.listens(20000) == {"default/hello"}
    assert state.listens(20001) == state.listens(15080) == frozenset()


def test_without_gateways_the_text_says_where_to_look() -> None:
    assert "DaemonSet acmg-gateway" in unready_text([])


def test_capture_fails_open_after_a_while_without_gateways_and_closes_after_a_while_with_them() -> None:
    fail = FailOpen(0.0, after_s=10.0, back_after_s=30.0)
    assert not fail.update(5.0, 5.0, any_ready=True)
    assert not fail.update(14.9, 5.0, any_ready=False)
    assert fail.update(15.0, 5.0, any_ready=False)
    assert fail.is_open
    assert not fail.update(20.0, 20.0, any_ready=True)
    assert not fail.update(30.0, 29.0, any_ready=False)  # it flaps: the count begins anew
    assert not fail.update(31.0, 31.0, any_ready=True)
    assert not fail.update(60.9, 60.9, any_ready=True)
    assert fail.update(61.0, 61.0, any_ready=True)
    assert not fail.is_open
