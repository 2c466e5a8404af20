# SPDX-License-Identifier: Apache-2.0
"""Facts about `acmgctl capture` and `release`, with the controller's part played by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.acmgctl import Acmgctl, capture_by_hand, gateway_node, until, web_service
from tests.kube import FakeApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Object = dict[str, Any]
LABEL = "acmg.io/capture"


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer(endpointslices=True, gc=True) as api:
        gateway_node(api)
        yield api


@pytest.fixture
def acmgctl(api: FakeApiServer, tmp_path: Path) -> Acmgctl:
    return Acmgctl(api.kubeconfig(tmp_path))


def labels(api: FakeApiServer, kind: str, name: str) -> Object:
    found = api.get(kind, "default" if kind == "Service" else "", name)
    assert found is not None
    labels: Object = found["metadata"].get("labels") or {}
    return labels


def say(api: FakeApiServer, name: str, status: str) -> None:
    found = api.get("Service", "default", name)
    assert found is not None
    found["metadata"].setdefault("annotations", {})["acmg.io/status"] = status
    api.put(found)


def release_by_hand(api: FakeApiServer, name: str) -> None:
    found = api.get("Service", "default", name)
    assert found is not None
    found["spec"]["selector"].pop("acmg.io/captured", None)
    api.put(found)
    api.delete("EndpointSlice", "default", f"{name}-acmg-gateway-ipv4")
    api.delete("Service", "default", f"{name}-acmg")


async def test_a_service_is_labelled_and_waited_for(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web", ports=[{"name": "http", "port": 80}, {"name": "db", "port": 5432}])
    process = await acmgctl.start("capture", "web")
    await until(lambda: labels(api, "Service", "web").get(LABEL) == "enabled")
    say(api, "web", "pending: no gateway is ready")
    capture_by_hand(api, "web")
    ended = await acmgctl.end(process)
    assert ended.code == 0, ended.err
    assert ended.out == (
        "Service default/web: through the gateways: port 80 (http); "
        "direct as before: 5432 (db) (not HTTP by name or appProtocol, or excluded)\n"
        "Service default/web labelled acmg.io/capture=enabled\n"
        "Service default/web is captured\n"
    )
    assert "warning: acmgproxy is not installed in this cluster" in ended.err


async def test_a_release_removes_the_label_and_waits_until_traffic_is_direct(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web")
    capture_by_hand(api, "web")
    process = await acmgctl.start("release", "default/web")
    found = await acmgctl.end(await acmgctl.start("release", "web", "--timeout", "1s"))
    assert found.code == 1
    assert "not direct after 1 s:\n  default/web (releasing" in found.err
    release_by_hand(api, "web")
    ended = await acmgctl.end(process)
    assert ended.code == 0, ended.err
    assert ended.out.endswith("Service default/web is direct\n")


async def test_a_release_is_said_on_the_service_where_something_else_asks_for_capture(
    api: FakeApiServer, acmgctl: Acmgctl
) -> None:
    space = api.get("Namespace", "", "default")
    assert space is not None
    space["metadata"]["labels"] = {LABEL: "enabled"}
    api.put(space)
    web_service(api, "web")
    assert (await acmgctl("release", "web")).code == 0
    assert labels(api, "Service", "web")[LABEL] == "disabled"
    ended = await acmgctl("release", "-n", "default")
    assert ended.code == 0, ended.err
    assert LABEL not in labels(api, "Namespace", "default")
    assert (await acmgctl("release", "web")).code == 0
    assert LABEL not in labels(api, "Service", "web")


async def test_a_namespace_is_captured_but_for_what_cannot_be(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web")
    web_service(api, "db", clusterIP="None")
    process = await acmgctl.start("capture", "--namespace", "default")
    await until(lambda: labels(api, "Namespace", "default").get(LABEL) == "enabled")
    capture_by_hand(api, "web")
    ended = await acmgctl.end(process)
    assert ended.code == 0, ended.err
    assert "Service default/db stays direct: spec.clusterIP is None (headless)" in ended.out
    assert "Service default/web is captured\n" in ended.out
    assert LABEL not in labels(api, "Service", "web")


async def test_rights_in_ones_own_namespace_are_enough(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web")
    own = "/namespaces/default/"
    api.faults.answer(403, match=lambda one: own not in one.path, count=None)
    process = await acmgctl.start("capture", "web")
    await until(lambda: labels(api, "Service", "web").get(LABEL) == "enabled")
    capture_by_hand(api, "web")
    ended = await acmgctl.end(process)
    assert (ended.code, ended.err.count("warning")) == (0, 0), ended.err
    assert "Service default/web is captured\n" in ended.out
    assert {one.user_agent for one in api.requests} == {"acmgctl"}


async def test_what_cannot_be_captured_is_told_and_left_alone(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "db", clusterIP="None")
    web_service(api, "mail", ports=[{"name": "smtp", "port": 25}])
    writes: list[str] = []
    api.on_write(lambda method, _obj: writes.append(method))
    ended = await acmgctl("capture", "db")
    assert ended.code == 1
    assert "error: Service default/db cannot be captured: spec.clusterIP is None (headless)" in ended.err
    ended = await acmgctl("capture", "default/mail")
    assert ended.code == 1
    assert "no port is HTTP" in ended.err
    ended = await acmgctl("capture", "maill")
    assert ended.code == 2
    assert "error: there is no Service default/maill; did you mean mail?\n" in ended.err
    assert (await acmgctl("capture")).code == 2
    assert writes == []


async def test_a_refusal_of_the_controller_ends_the_wait(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web")
    say(api, "web", "refused: an old story")
    process = await acmgctl.start("capture", "web")
    await until(lambda: labels(api, "Service", "web").get(LABEL) == "enabled")
    say(api, "web", "refused: rename it")
    ended = await acmgctl.end(process)
    assert ended.code == 1
    assert "error: Service default/web cannot be captured: rename it\n" in ended.err


async def test_a_capture_that_takes_too_long_says_where_it_stands(api: FakeApiServer, acmgctl: Acmgctl) -> None:
    web_service(api, "web")
    say(api, "web", "pending: no gateway is ready")
    ended = await acmgctl("capture", "web", "--timeout", "1s")
    assert ended.code == 1
    assert "not captured after 1 s:\n  default/web (pending: no gateway is ready)\n" in ended.err
    assert (await acmgctl("capture", "web", "--no-wait")).code == 0
