# SPDX-License-Identifier: Apache-2.0
"""Rendering: what each value changes, and the order of what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest

from acmgproxy.ctl.manifests import ManifestsError, directory, load, parse_values, render
from tests.unit.deploy.kustomize import by_name, only

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = by_name(render(parse_values([])))
GATEWAY = ("DaemonSet", "acmg-system", "acmg-gateway")
CONTROLLER = ("Deployment", "acmg-system", "acmg-controller")


def _changes(before: Any, after: Any, path: str = "") -> dict[str, Any]:
    """Return what is different, by path; None where it is gone."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, Any] = {}
        for name in before.keys() | after.keys():
            found |= _changes(before.get(name), after.get(name), f"{path}/{name}")
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return {
            key: value
            for number, (old, new) in enumerate(zip(before, after, strict=True))
            for key, value in _changes(old, new, f"{path}/{number}").items()
        }
    return {} if before == after else {path: after}


def _changed(*assignments: str) -> dict[str, Any]:
    """Return what assignments change about the defaults, by component and path within the pod's container or object."""
    after = by_name(render(parse_values(assignments)))
    assert after.keys() == DEFAULT.keys()
    changes = {}
    for name, obj in after.items():
        for path, value in _changes(DEFAULT[name], obj).items():
            short = path.replace("/spec/template/spec/containers/0", "").replace("/spec/template/spec", "pod")
            changes[f"{name[2].removeprefix('acmg-')} {short}"] = value
    return changes


def test_each_value_changes_what_it_is_for_and_nothing_else() -> None:
    image = "registry.example.com/mesh/acmgproxy:2.0"
    assert _changed("hub=registry.example.com/mesh", "tag=2.0") == {"gateway /image": image, "controller /image": image}
    assert _changed("imagePullPolicy=Always") == {
        "gateway /imagePullPolicy": "Always",
        "controller /imagePullPolicy": "Always",
    }
    assert _changed("logLevel=debug") == {"gateway /env/3/value": "debug", "controller /env/2/value": "debug"}
    assert _changed("gateway.accessLog=-") == {"gateway /args/4": "--access-log=-"}
    assert _changed("gateway.nodeSelector=") == {"gateway pod/nodeSelector": None}
    assert _changed("gateway.nodeSelector=disk=fast") == {
        "gateway pod/nodeSelector/acmg.io/gateway": None,
        "gateway pod/nodeSelector/disk": "fast",
    }
    assert _changed("gateway.tolerations=") == {"gateway pod/tolerations": None}
    assert _changed("gateway.tolerations=a,b=c:NoExecute") == {
        "gateway pod/tolerations": [
            {"key": "a", "operator": "Exists"},
            {"key": "b", "operator": "Equal", "value": "c", "effect": "NoExecute"},
        ]
    }
    assert _changed("gateway.resources.limits.cpu=4", "gateway.workers=1") == {
        **_changed("gateway.workers=1"),
        "gateway /resources/limits/cpu": "4",
    }
    assert _changed("gateway.resources.limits.memory=") == {"gateway /resources/limits": None}
    assert _changed("controller.replicas=3") == {"controller /spec/replicas": 3}
    assert _changed("controller.resources.requests.memory=1Gi") == {"controller /resources/requests/memory": "1Gi"}


def test_arguments_of_gateways_follow_the_values() -> None:
    (container,) = by_name(
        render(parse_values(["gateway.workers=4", "gateway.settings.max_connections=9", "gateway.drainAcceptSeconds=12"]))
    )[GATEWAY]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "run",
        "--kubernetes",
        "--health=[$(POD_IP)]:15021",
        "--admin=127.0.0.1:15000",
        "--access-log=off",
        "--set=drain_accept_s=12",
        "--set=drain_timeout_s=25",
        "--set=max_connections=9",
        "--workers=4",
    ]


@pytest.mark.parametrize(("limit", "workers"), [("1", 1), ("4", 4), ("2.5", 3), ("500m", 1), ("2500m", 3)])
def test_workers_are_no_more_than_the_cpu_limit_feeds(limit: str, workers: int) -> None:
    def arguments(*assignments: str) -> list[str]:
        gateway = by_name(render(parse_values([f"gateway.resources.limits.cpu={limit}", *assignments])))[GATEWAY]
        args: list[str] = gateway["spec"]["template"]["spec"]["containers"][0]["args"]
        return args

    assert arguments()[-1] == f"--workers={workers}"
    assert arguments("gateway.workers=9")[-1] == "--workers=9"


def test_grace_period_follows_the_drain() -> None:
    assert _changed("gateway.drainTimeoutSeconds=85") == {
        "gateway /args/6": "--set=drain_timeout_s=85",
        "gateway pod/terminationGracePeriodSeconds": 120,
    }


@pytest.mark.parametrize(("key", "kind"), [("disruptionBudgets", "PodDisruptionBudget"), ("networkPolicies", "NetworkPolicy")])
def test_what_is_not_wanted_is_left_out(key: str, kind: str) -> None:
    without = by_name(render(parse_values([f"{key}.enabled=false"])))
    assert DEFAULT.keys() - without.keys() == {name for name in DEFAULT if name[0] == kind}
    assert without.keys() <= DEFAULT.keys()


def test_monitor_gets_the_labels_that_its_prometheus_looks_for() -> None:
    objects = render(parse_values(["monitoring.enabled=true", "monitoring.labels=release=prometheus"]))
    assert only(objects, "PodMonitor")["metadata"]["labels"]["release"] == "prometheus"


def test_a_service_monitor_and_no_alerts_are_options() -> None:
    assert only(render(parse_values(["monitoring.enabled=true"])), "PrometheusRule")
    objects = render(parse_values(
        ["monitoring.enabled=true", "monitoring.serviceMonitor=true", "monitoring.rules=false", "monitoring.labels=a=b"]
    ))  # fmt: skip
    assert only(objects, "ServiceMonitor")["metadata"]["labels"]["a"] == "b"
    service = only(objects, "Service")
    (endpoint,) = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    wanted = only(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    for workload in ("DaemonSet", "Deployment"):
        template = only(objects, workload)["spec"]["template"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        names = {port["name"] for one in template["spec"]["containers"] for port in one["ports"]}
        assert service["spec"]["ports"][0]["targetPort"] in names
    assert not {"PodMonitor", "PrometheusRule"} & {obj["kind"] for obj in objects}


def test_what_others_need_comes_first() -> None:
    kinds = [obj["kind"] for obj in render(parse_values(["monitoring.enabled=true"]))]
    order = list(dict.fromkeys(kinds))
    assert kinds == sorted(kinds, key=order.index), "objects of a kind are together"
    before = [
        ("Namespace", "ServiceAccount"),
        ("CustomResourceDefinition", "DaemonSet"),
        ("PriorityClass", "DaemonSet"),
        ("ServiceAccount", "ClusterRoleBinding"),
        ("ClusterRole", "ClusterRoleBinding"),
        ("Role", "RoleBinding"),
        ("ClusterRoleBinding", "DaemonSet"),
        ("RoleBinding", "Deployment"),
        ("NetworkPolicy", "DaemonSet"),
        ("DaemonSet", "Deployment"),
    ]
    assert all(order.index(first) < order.index(then) for first, then in before)


def test_rendered_objects_belong_to_the_caller() -> None:
    only(render(parse_values([])), "Namespace")["metadata"]["labels"].clear()
    assert by_name(render(parse_values([]))) == DEFAULT


def test_values_make_valid_objects() -> None:
    values = parse_values([
        "gateway.nodeSelector=",
        "gateway.tolerations=a,b=c:NoExecute",
        "gateway.resources.limits.memory=",
        "gateway.resources.requests.cpu=",
        "gateway.resources.requests.memory=",
    ])  # fmt: skip
    for kind in ("DaemonSet", "Deployment"):
        kubernetes_validate.validate(only(render(values), kind), kubernetes_validate.latest_version(), strict=True)


def test_missing_manifests_are_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("acmgproxy.ctl.manifests.data.resources.files", lambda _: tmp_path / "acmgproxy")
    for ask in (directory, lambda: load("base")):
        with pytest.raises(ManifestsError, match="reinstall"):
            ask()


def test_manifests_of_the_package_come_before_those_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("acmgproxy.ctl.manifests.data.resources.files", lambda _: tmp_path / "acmgproxy")
    for place in ("deploy", "acmgproxy/_deploy"):
        base = tmp_path / place / "base"
        base.mkdir(parents=True)
        (base / "kustomization.yaml").write_text("resources: []\n")
        assert directory() == tmp_path / place
    assert load("base") == []
