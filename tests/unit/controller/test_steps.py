# SPDX-License-Identifier: Apache-2.0
"""Each condition of `steps` on its own, on the cluster of `cluster_model`."""

from __future__ import annotations

import pytest

from tests.unit.controller.cluster_model import HTTP_B, PODS, SHADOW, ClusterModel, GatewayModel

GATEWAY_SLICE = "hello-acmg-gateway-ipv4"


def catch_up(model: ClusterModel, *, native: tuple[str, ...] = ("hello", SHADOW)) -> None:
    """Let everybody catch up but the controller."""
    for name in native:
        model.native_sync(name)
    for name in model.gateways:
        model.gateway_sync(name)
    model.probe()
    look(model)


def look(model: ClusterModel) -> None:
    model.see("Service")
    model.see("EndpointSlice")


def has_key(model: ClusterModel) -> bool:
    return model.has_key


def settle(model: ClusterModel, refused: str = "", rounds: int = 8) -> ClusterModel:
    for _ in range(rounds):
        catch_up(model)
        model.now += 1.0
        model.reconcile(refused=refused)
    return model


@pytest.fixture
def model() -> ClusterModel:
    model = ClusterModel()
    for name in ("gw-1", "gw-2"):
        model.gateways[name] = GatewayModel(name, f"10.1.0.{name[-1]}")
    return model


@pytest.mark.parametrize("refused", ["direct-slice", "gateway-slice", "shadow"])
def test_the_key_waits_for_every_slice(model: ClusterModel, refused: str) -> None:
    settle(model, refused)
    assert not has_key(model)
    settle(model)
    assert has_key(model)
    assert not model.worst


def test_the_key_waits_until_the_shadow_has_all_that_the_native_slices_have(model: ClusterModel) -> None:
    catch_up(model)
    model.reconcile()
    model.native_sync(SHADOW)
    model.slices[f"{SHADOW}-native"]["endpoints"].pop()
    for _ in range(5):
        catch_up(model, native=("hello",))
        model.reconcile()
    assert not has_key(model)
    assert not model.ours()


def test_a_port_that_no_slice_tells_of_holds_the_key_back_but_not_for_ever(model: ClusterModel) -> None:
    catch_up(model)
    model.reconcile()
    model.native_sync(SHADOW)
    unnamed = model.slices[f"{SHADOW}-native"]
    unnamed["ports"] = [one for one in unnamed["ports"] if one["name"] != "db"]
    model.slices["hello-native"]["ports"] = unnamed["ports"]
    model.restart()
    for _ in range(5):
        catch_up(model, native=())
        model.reconcile()
    assert not has_key(model)
    model.now += 31.0
    model.reconcile()
    assert has_key(model)


def test_our_slices_stay_until_the_native_ones_have_every_endpoint(model: ClusterModel) -> None:
    settle(model)
    model.label(None)
    for endpoints in ([], ["10.0.0.1"]):
        if endpoints:
            model.native_sync("hello")
            model.slices["hello-native"]["endpoints"].pop()
        for _ in range(4):
            catch_up(model, native=(SHADOW,))
            model.reconcile()
        assert not has_key(model)
        assert GATEWAY_SLICE in model.slices
    settle(model)
    assert not model.ours()
    assert not model.worst


def test_without_a_shadow_our_slices_stay_until_every_port_has_a_native_way(model: ClusterModel) -> None:
    settle(model)
    model.label(None)
    look(model)
    model.reconcile(1)
    del model.services[SHADOW]
    model.native_sync(SHADOW)
    model.restart()
    model.reconcile(refused="shadow")
    assert GATEWAY_SLICE in model.slices


def test_the_shadow_stays_until_nodes_have_followed(model: ClusterModel) -> None:
    settle(model)
    model.label(None)
    for _ in range(4):
        catch_up(model)
        model.reconcile()
    assert not model.ours()
    assert SHADOW in model.services
    model.now += 5.0
    model.reconcile()
    assert SHADOW not in model.services


def test_gateway_slices_that_somebody_deleted_come_back_with_whatever_gateway_works(model: ClusterModel) -> None:
    settle(model)
    model.gateways["gw-2"].bound.clear()
    model.probe()
    del model.slices[GATEWAY_SLICE]
    model.restart()
    model.reconcile()
    assert has_key(model)
    assert {address for address, _ in model.ways("http")} == {"10.1.0.1", "10.0.0.1", "10.0.0.2"}  # the latter for the moment
    settle(model)
    assert {address for address, _ in model.ways("http")} == {"10.1.0.1", "10.1.0.2"}
    assert not model.worst


def test_a_key_without_any_gateway_that_works_goes_at_once(model: ClusterModel) -> None:
    settle(model)
    for gateway in model.gateways.values():
        gateway.bound.clear()
    del model.slices[GATEWAY_SLICE]
    model.restart()
    model.reconcile(1)
    assert not has_key(model)


def test_direct_slices_survive_the_loss_of_what_they_repeat(model: ClusterModel) -> None:
    settle(model)
    before = model.ways("db")
    del model.services[SHADOW]
    model.native_sync(SHADOW)
    model.restart()
    model.reconcile()
    assert SHADOW in model.services
    assert model.ways("db") == before != []


def test_a_port_leaves_the_gateways_only_after_its_direct_way_is_there(model: ClusterModel) -> None:
    model.edit(ports=[*model.service["spec"]["ports"], HTTP_B])
    settle(model)
    gateways, pods = {"10.1.0.1", "10.1.0.2"}, {address for address, app in PODS.items() if app == "blue"}
    assert {address for address, _ in model.ways("http-b")} == gateways
    model.annotate("acmg.io/exclude-ports", "81")
    for _ in range(3):
        look(model)
        model.reconcile(refused="direct-slice")
        assert {address for address, _ in model.ways("http-b")} == gateways
    settle(model)
    assert {address for address, _ in model.ways("http-b")} == pods
    assert has_key(model)
    assert not model.worst


def test_a_renamed_port_stays_with_the_gateways_until_its_new_name_is_known_elsewhere(model: ClusterModel) -> None:
    model.edit(ports=[*model.service["spec"]["ports"], HTTP_B])
    settle(model)
    model.edit(ports=[one | ({"name": "web"} if one["port"] == 81 else {}) for one in model.service["spec"]["ports"]])
    for _ in range(3):  # the native controller has yet to see the new name
        look(model)
        model.reconcile()
        assert {address for address, _ in model.ways("web")} == {"10.1.0.1", "10.1.0.2"}
    settle(model)
    assert {address for address, _ in model.ways("web")} == {"10.0.0.1", "10.0.0.2"}


def test_a_capture_that_has_not_come_to_the_key_leaves_no_dead_gateways_behind(model: ClusterModel) -> None:
    for _ in range(2):
        catch_up(model)
        model.reconcile(allowance=1)
    assert GATEWAY_SLICE in model.slices
    for gateway in model.gateways.values():
        gateway.is_ready = False
    settle(model, rounds=3)
    assert not model.ours()
    assert not has_key(model)


def test_the_last_gateway_stays_listed(model: ClusterModel) -> None:
    settle(model)
    model.gateways["gw-1"].is_ready = False
    settle(model, rounds=2)
    assert {address for address, _ in model.ways("http")} == {"10.1.0.2"}
    model.gateways["gw-2"].is_ready = False
    settle(model, rounds=4)
    assert {address for address, _ in model.ways("http")} == {"10.1.0.2"}
    assert has_key(model)
    model.fails_open = True
    catch_up(model)
    model.reconcile()
    assert not has_key(model)
    assert {address for address, _ in model.ways("http")} == {"10.1.0.2"}
    settle(model)
    assert not model.ours()
    assert SHADOW in model.services
