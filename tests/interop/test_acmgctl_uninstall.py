# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl uninstall`: traffic is direct before anything is deleted, wherever it is interrupted."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.acmgctl import (
    MANAGED_BY,
    SERVICE,
    Acmgctl,
    capture_by_hand,
    gateway_node,
    is_led_by_gateways,
    native_addresses,
    until,
    web_service,
)
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from pathlib import Path

Object = dict[str, Any]
NAMES = ("one", "two", "three")

pytestmark = pytest.mark.slow


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(endpointslices=True, gc=True, workloads=True, kubelet=True) as api:
        gateway_node(api)
        yield api


@pytest.fixture
def acmgctl(api: FakeApiServer, tmp_path: Path) -> Acmgctl:
    return Acmgctl(api.kubeconfig(tmp_path))


async def installed_and_captured(api: FakeApiServer, acmgctl: Acmgctl) -> dict[str, set[str]]:
    """Install, capture three Services; return where their own slices led before."""
    assert (await acmgctl("install")).code == 0
    for name in NAMES:
        web_service(api, name)
    await until(lambda: all(native_addresses(api, name) for name in NAMES))
    before = {name: native_addresses(api, name) for name in NAMES}
    for number, name in enumerate(NAMES):
        capture_by_hand(api, name, gateway_port=20001 + number)
        labelled = api.get("Service", "default", name)
        assert labelled is not None
        labelled["metadata"].setdefault("labels", {})["acmg.io/capture"] = "enabled"
        api.put(labelled)
    await until(lambda: not any(native_addresses(api, name) for name in NAMES))
    await until(lambda: all(native_addresses(api, f"{name}-acmg") for name in NAMES))
    return before


class Witness:
    """Looks at every deletion when it happens."""

    def __init__(self, api: FakeApiServer) -> None:
        self.api = api
        self.deleted: list[str] = []
        self.wrong: list[str] = []
        api.on_write(self._wrote)

    def _wrote(self, method: str, obj: Object) -> None:
        if method != "DELETE":
            return
        name = obj["metadata"]["name"]
        labels = obj["metadata"].get("labels") or {}
        self.deleted.append(f"{obj['kind']} {name}")
        if labels.get(MANAGED_BY) == "acmg.io":
            if not native_addresses(self.api, labels[SERVICE]):
                self.wrong.append(f"{name} deleted although {labels[SERVICE]} is not direct")
        elif any(is_led_by_gateways(self.api, one) for one in NAMES) and "acmg.io/shadow" not in labels:
            self.wrong.append(f"{obj['kind']} {name} deleted although traffic is not direct")
        elif "acmg.io/shadow" in labels and is_led_by_gateways(self.api, labels["acmg.io/shadow-of"]):
            self.wrong.append(f"{name} deleted although slices lead to its ports")


async def test_nothing_is_deleted_before_traffic_is_direct(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    before = await installed_and_captured(api, acmgctl)
    witness = Witness(api)
    ended = await acmgctl("uninstall", "-y", "--linger", "1s")
    assert ended.code == 0, ended.err
    assert witness.wrong == []
    kinds = [text.partition(" ")[0] for text in witness.deleted]
    assert kinds[:6] == ["EndpointSlice"] * 3 + ["Service"] * 3
    assert kinds[6:8] == ["Deployment", "DaemonSet"]
    assert {name: native_addresses(api, name) for name in NAMES} == before
    for name in NAMES:
        assert f"Service default/{name} released\n" in ended.out
        found = api.get("Service", "default", name)
        assert found is not None
        assert found["spec"]["selector"] == {"app": name}
        assert found["metadata"]["labels"] == {"acmg.io/capture": "enabled"}
        assert "acmg.io/status" not in (found["metadata"].get("annotations") or {})
    assert api.get("Namespace", "", "acmg-system") is not None
    assert api.get("CustomResourceDefinition", "", "virtualservices.networking.istio.io") is not None
    assert [one["metadata"]["name"] for one in api.objects("ClusterRole")] == []


async def test_the_cluster_is_given_time_to_list_endpoints_again(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    """With the cluster's controller stopped nothing of ours may go, and nothing is lost."""
    await installed_and_captured(api, acmgctl)
    assert api.endpointslices is not None
    api.endpointslices.stop()
    witness = Witness(api)
    ended = await acmgctl("uninstall", "-y", "--linger", "1s", "--timeout", "2s")
    assert ended.code == 1
    assert "3 Services are not released after 2 s, so nothing of acmgproxy was deleted" in ended.err
    assert "default/one: the cluster has not yet listed all its endpoints again" in ended.err
    assert witness.deleted == []
    api.endpointslices.start()
    assert (await acmgctl("uninstall", "-y", "--linger", "1s")).code == 0
    assert witness.wrong == []


async def test_it_may_be_interrupted_after_every_write_and_run_again(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    before = await installed_and_captured(api, acmgctl)
    witness = Witness(api)
    running: list[asyncio.subprocess.Process] = []

    def interrupt(method: str, obj: Object) -> None:
        releases = obj["kind"] in {"Service", "EndpointSlice"}
        if running and obj["kind"] != "Lease" and (releases or method == "DELETE"):
            running.pop().send_signal(signal.SIGINT)

    api.on_write(interrupt)
    codes: list[int] = []
    while not codes or codes[-1] == 130:
        process = await acmgctl.start("uninstall", "-y", "--linger", "1s")
        running[:] = [process]
        codes.append((await acmgctl.end(process)).code)
    assert codes[-1] == 0
    assert len(codes) > 6
    assert witness.wrong == []
    assert {name: native_addresses(api, name) for name in NAMES} == before
    assert not api.objects("DaemonSet")
    assert len(api.objects("Service", "default")) == len(NAMES)


async def test_a_purge_leaves_nothing_but_what_is_in_use(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    await installed_and_captured(api, acmgctl)
    spec = {"hosts": ["one"], "http": [{"route": [{"destination": {"host": "one"}}]}]}
    api.put({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "vs"}, "spec": spec})
    ended = await acmgctl("uninstall", "--purge", "-y", "--linger", "1s")
    assert ended.code == 0, ended.err
    assert api.get("Namespace", "", "acmg-system") is None
    definitions = [one["metadata"]["name"] for one in api.objects("CustomResourceDefinition")]
    assert definitions == ["virtualservices.networking.istio.io"]
    kept = "CustomResourceDefinition virtualservices.networking.istio.io kept: there are 1 objects of the kind VirtualService\n"
    assert kept in ended.out
    again = await acmgctl("uninstall", "--purge", "-y", "--linger", "1s")
    assert again.code == 0
    assert "acmgproxy was not installed; nothing is left of it\n" in again.out


async def test_without_yes_and_without_a_terminal_it_is_refused(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    assert (await acmgctl("install")).code == 0
    writes: list[tuple[str, str]] = []
    api.on_write(lambda method, obj: writes.append((method, obj["kind"])))
    ended = await acmgctl("uninstall")
    assert ended.code == 2
    assert "Say that you mean it with -y; nothing was changed" in ended.err
    assert writes == []


async def test_a_controller_elsewhere_loses_its_lease_and_is_switched_off_until_the_next_installation(
    api: FakeApiServer, acmgctl: Acmgctl
) -> None:
    assert (await acmgctl("install")).code == 0
    spec = {"holderIdentity": "elsewhere", "leaseDurationSeconds": 2, "leaseTransitions": 4}
    meta = {"name": "acmg-controller", "namespace": "acmg-system"}
    api.put({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})
    seen: list[tuple[str, Object]] = []
    api.on_write(lambda method, obj: seen.append((method, obj)))
    ended = await acmgctl("uninstall", "-y", "--linger", "1s")
    assert ended.code == 0, ended.err
    assert "taking over from the controller elsewhere, which may work for another 2 s" in ended.err
    leases = [obj for method, obj in seen if obj["kind"] == "Lease" and method == "PUT"]
    assert leases[0]["spec"]["holderIdentity"].startswith("acmgctl-")
    assert leases[0]["spec"]["leaseTransitions"] == 5
    space = api.get("Namespace", "", "acmg-system")
    assert space is not None
    assert space["metadata"]["labels"]["acmg.io/capture"] == "disabled"
    assert (await acmgctl("install")).code == 0
    space = api.get("Namespace", "", "acmg-system")
    assert space is not None
    assert "acmg.io/capture" not in space["metadata"]["labels"]
    space["metadata"]["labels"]["acmg.io/capture"] = "disabled"
    api.put(space)
    ended = await acmgctl("install")
    assert ended.code == 0
    assert "warning: capture is switched off for the whole cluster" in ended.err


async def test_controllers_that_do_not_stop_are_waited_for_and_then_left_to_the_lease(
    api: FakeApiServer, acmgctl: Acmgctl
) -> None:
    assert (await acmgctl("install")).code == 0
    assert api.kubelet is not None
    ended_pods: list[str] = []

    def may_end(pod: Object) -> bool:
        is_controller = pod["metadata"]["labels"].get("app.kubernetes.io/component") == "controller"
        if is_controller:
            ended_pods.append(pod["metadata"]["name"])
        return not is_controller or len(ended_pods) > 3

    api.kubelet.may_end = may_end
    process = await acmgctl.start("uninstall", "-y", "--linger", "1s")
    await until(lambda: len(ended_pods) >= 2)
    api.kubelet.look()
    await until(lambda: len(ended_pods) >= 4)
    api.kubelet.look()
    ended = await acmgctl.end(process)
    assert ended.code == 0, ended.err
    assert "stopping the controller: 2 pods left\n" in ended.err
