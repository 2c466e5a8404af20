# SPDX-License-Identifier: Apache-2.0
"""The promise of `steps` in any interleaving; see `cluster_model`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.controller.cluster_model import HTTP_B, SHADOW, ClusterModel, GatewayModel

NAMES = ("gw-1", "gw-2", "gw-3")


class Interleavings(RuleBasedStateMachine):
    """Anything may happen at any time, and the controller may be killed after any write."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ClusterModel()

    @initialize(count=st.integers(1, 2), rounds=st.sampled_from([0, 8]))
    def begin(self, count: int, rounds: int) -> None:
        if rounds:
            self.model.edit(ports=[*self.model.service["spec"]["ports"], HTTP_B])
        for name in NAMES[:count]:
            self.model.gateways[name] = GatewayModel(name, f"10.1.0.{name[-1]}")
            self.model.gateway_sync(name)
        self.model.probe()
        for _ in range(rounds):
            self.round()

    def teardown(self) -> None:
        self.converges()

    # --- others are as slow as they like ---------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["hello", SHADOW]))
    def native(self, name: str) -> None:
        self.model.native_sync(name)

    @rule(name=st.sampled_from(NAMES))
    def gateway_reads(self, name: str) -> None:
        if name in self.model.gateways:
            self.model.gateway_sync(name)

    @rule(kind=st.sampled_from(["Service", "EndpointSlice"]))
    def watch(self, kind: str) -> None:
        self.model.see(kind)

    @rule()
    def probe(self) -> None:
        self.model.probe()

    @rule(seconds=st.sampled_from([1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.model.now += seconds

    # --- the controller --------------------------------------------------------------------------------------------------

    @rule(allowance=st.integers(1, 3), refused=st.sampled_from(["", "", "shadow", "gateway-slice", "direct-slice"]))
    def reconcile(self, allowance: int, refused: str) -> None:
        self.model.reconcile(allowance, refused)

    @rule(allowance=st.integers(1, 2), kinds=st.sampled_from([["Service"], ["EndpointSlice"], ["Service", "EndpointSlice"]]))
    def see_and_reconcile(self, allowance: int, kinds: list[str]) -> None:
        for kind in kinds:
            self.model.see(kind)
        self.model.probe()
        self.model.reconcile(allowance)

    @rule()
    def one_round(self) -> None:
        self.round()

    # --- people, and accidents -------------------------------------------------------------------------------------------

    @rule(value=st.sampled_from(["enabled", None]))
    def label(self, value: str | None) -> None:
        self.model.label(value)

    @rule(value=st.sampled_from(["81", "http", None]))
    def exclude(self, value: str | None) -> None:
        self.model.annotate("acmg.io/exclude-ports", value)

    @rule(policy=st.sampled_from(["Local", "Cluster"]))
    def policy(self, policy: str) -> None:
        self.model.edit(internalTrafficPolicy=policy)

    @rule()
    def forced_apply(self) -> None:
        self.model.edit(selector={key: value for key, value in self.model.service["spec"]["selector"].items() if key == "app"})

    @rule()
    def port(self) -> None:
        ports = self.model.service["spec"]["ports"]
        self.model.forget(HTTP_B["name"])  # when it comes again, the others have yet to see it
        self.model.edit(ports=[one for one in ports if one["port"] != 81] if HTTP_B in ports else [*ports, HTTP_B])

    @rule(name=st.sampled_from(NAMES))
    def gateway_comes(self, name: str) -> None:
        if name not in self.model.gateways:
            self.model.gateways[name] = GatewayModel(name, f"10.1.0.{name[-1]}")

    @rule(name=st.sampled_from(NAMES), ready=st.booleans())
    def gateway_drains(self, name: str, ready: bool) -> None:
        if name in self.model.gateways:
            self.model.gateways[name].is_ready = ready

    @rule(name=st.sampled_from(NAMES))
    def gateway_dies_and_restarts(self, name: str) -> None:
        if name in self.model.gateways:
            self.model.gateways[name] = GatewayModel(name, f"10.1.0.{name[-1]}")

    @rule(name=st.sampled_from(NAMES))
    @precondition(lambda self: len(self.model.gateways) > 1)
    def gateway_dies(self, name: str) -> None:
        if name in self.model.gateways:
            self.model.gateways[name].is_alive = False

    @rule(opens=st.booleans())
    def fails_open(self, opens: bool) -> None:
        self.model.fails_open = opens

    # --- the promise -------------------------------------------------------------------------------------------------------

    @invariant()
    def every_port_has_a_way(self) -> None:
        assert not self.model.worst

    def round(self) -> int:
        """Let everybody catch up, and the controller do all it wants."""
        model = self.model
        for name in ("hello", SHADOW):
            model.native_sync(name)
        for name in model.gateways:
            model.gateway_sync(name)
        model.probe()
        model.see("Service")
        model.see("EndpointSlice")
        model.now += 6.0
        writes = model.reconcile()
        if not writes:
            model.remember()
        return writes

    def converges(self) -> None:
        """See that it ends where it should once the others have come to rest."""
        model = self.model
        for one in model.gateways.values():
            one.is_ready = True
        model.gateways.setdefault("gw-9", GatewayModel("gw-9", "10.1.0.9"))
        quiet = 0
        for _ in range(60):
            quiet = 0 if self.round() else quiet + 1
            if quiet > 3:
                break
        assert quiet > 3, model.writes[-20:]
        assert not model.worst
        self.check_end()

    def check_end(self) -> None:
        model = self.model
        excluded = (model.service["metadata"].get("annotations") or {}).get("acmg.io/exclude-ports")
        ports = [one for one in model.service["spec"]["ports"] if one["name"].startswith("http")]
        wanted = {one["name"] for one in ports if excluded not in {one["name"], str(one["port"])}}
        asked = model.service["metadata"]["labels"].get("acmg.io/capture") == "enabled"
        is_refused = model.service["spec"].get("internalTrafficPolicy") == "Local" or not wanted
        if not asked or is_refused or model.fails_open:
            assert not model.has_key
            assert not model.ours()
            assert (SHADOW in model.services) is (asked and not is_refused)
            assert (model.status is None) is not asked
            return
        assert model.has_key
        assert model.status == "captured"
        everybody = {one.address for one in model.gateways.values() if one.is_alive}
        for port in model.service["spec"]["ports"]:
            found = {address for address, _ in model.ways(port["name"])}
            assert found == (everybody if port["name"] in wanted else {"10.0.0.1", "10.0.0.2"}), (port, model.slices)


TestInterleavings: Any = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_capture_takes_four_writes_and_a_release_as_many() -> None:
    machine = Interleavings()
    machine.begin(2, 0)
    model = machine.model
    while machine.round() or not model.has_key:
        pass
    assert [reason.split()[0] for reason in model.writes] == ["shadow", "gateway-slice", "direct-slice", "key-added"]
    model.writes.clear()
    model.label(None)
    for _ in range(6):
        machine.round()
    assert [one.split()[0] for one in model.writes] == ["key-removed", "slice-deleted", "slice-deleted", "shadow-deleted"]
