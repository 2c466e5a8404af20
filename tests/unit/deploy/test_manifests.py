# SPDX-License-Identifier: Apache-2.0
"""The manifests: valid, safe, at least privilege, and in agreement with the code they run."""

from __future__ import annotations

import tomllib
from typing import Any

import kubernetes_validate
import pytest

from acmgproxy import cli
from acmgproxy.ctl.manifests import NAMESPACE, parse_values, render
from acmgproxy.log import LEVEL_VARIABLE
from discovery.kube import ENDPOINT_SLICES, EVENTS, GATEWAY_KINDS, LEASES, NAMESPACES, NODES, PODS, SERVICES, VIRTUAL_SERVICES
from routing.capture import GATEWAY_PORTS
from tests.unit.deploy.kustomize import DEPLOY, ROOT, Object, build, documents, only

OBJECTS = build(DEPLOY / "overlays" / "acmg")
DEMO = build(DEPLOY / "overlays" / "demo")
SAMPLE = [obj for file in sorted((DEPLOY / "samples" / "helloworld").iterdir()) for obj in documents(file)]
WORKLOADS = [only(objects, kind) for objects in (OBJECTS, DEMO) for kind in ("DaemonSet", "Deployment")]

ISTIO = {"VirtualService", "DestinationRule", "ServiceEntry"}
READ = ["get", "list", "watch"]


def _pod(workload: Object) -> dict[str, Any]:
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    return pod


def _container(workload: Object) -> dict[str, Any]:
    (container,) = _pod(workload)["containers"]
    assert isinstance(container, dict)
    return container


def _name(obj: Object) -> str:
    return f"{obj['kind']}-{obj['metadata']['name']}"


# --- valid ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obj", [*OBJECTS, *DEMO, *[one for one in SAMPLE if one["kind"] not in ISTIO], *build(DEPLOY / "dashboards")], ids=_name
)
def test_object_is_valid(obj: Object) -> None:
    kubernetes_validate.validate(obj, kubernetes_validate.latest_version(), strict=True)


def test_validation_is_strict() -> None:
    namespace = {**only(OBJECTS, "Namespace"), "colour": "blue"}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(namespace, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("obj", [*OBJECTS, *build(DEPLOY / "components" / "monitoring")], ids=_name)
def test_object_says_whose_it_is(obj: Object) -> None:
    assert obj["metadata"]["labels"]["app.kubernetes.io/name"] == "acmgproxy"


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_selectors_find_the_pods(workload: Object) -> None:
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"] == labels
    component = labels["app.kubernetes.io/component"]
    assert workload["metadata"]["name"] == f"acmg-{component}"
    for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert only(OBJECTS, kind, f"acmg-{component}")["spec"][selector] == {"matchLabels": labels}


# --- safe -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_pods_have_no_privilege(workload: Object) -> None:
    pod, container = _pod(workload), _container(workload)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"} & set(pod)
    assert not any("hostPort" in port for port in container["ports"])


def test_namespace_enforces_that() -> None:
    assert only(OBJECTS, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_tokens_are_given_to_pods_and_not_to_accounts() -> None:
    for account in (obj for obj in OBJECTS if obj["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for workload in WORKLOADS:
        assert _pod(workload)["automountServiceAccountToken"] is True
        assert _pod(workload)["serviceAccountName"] == workload["metadata"]["name"]


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_memory_is_limited_and_cpu_is_not(workload: Object) -> None:
    resources = _container(workload)["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_pods_are_the_last_to_be_evicted(workload: Object) -> None:
    priority = only(OBJECTS, "PriorityClass")
    assert _pod(workload)["priorityClassName"] == priority["metadata"]["name"]
    assert priority["value"] < 1_000_000_000  # above that is for the system
    assert not priority["metadata"]["name"].startswith("system-")


def test_image_is_this_release() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for workload in WORKLOADS:
        assert _container(workload)["image"] == f"acmgproxy:{version}"


# --- rights -----------------------------------------------------------------------------------------------------------------


def _rules(objects: list[Object], kind: str, name: str) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """Return verbs and names by group and resource."""
    rules: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for rule in only(objects, kind, name)["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                verbs, names = rules.get((group, resource), ([], []))
                rules[group, resource] = (sorted({*verbs, *rule["verbs"]}), [*names, *rule.get("resourceNames", ())])
    return rules


def test_gateways_only_read_what_is_routed_by() -> None:
    rules = _rules(OBJECTS, "ClusterRole", "acmg-gateway")
    assert all(verbs == READ and not names for verbs, names in rules.values())
    assert set(rules) == {(kind.group, kind.plural) for kind in GATEWAY_KINDS}
    assert not [obj for obj in OBJECTS if obj["kind"] == "Role" and obj["metadata"]["name"] == "acmg-gateway"]


def test_controller_writes_services_slices_events_and_its_lease() -> None:
    rules = _rules(OBJECTS, "ClusterRole", "acmg-controller")
    assert {name: verbs for name, (verbs, _) in rules.items()} == {
        (SERVICES.group, SERVICES.plural): ["create", "delete", "get", "list", "patch", "watch"],
        (ENDPOINT_SLICES.group, ENDPOINT_SLICES.plural): ["create", "delete", "list", "update", "watch"],
        (EVENTS.group, EVENTS.plural): ["create"],
        **{(kind.group, kind.plural): ["list", "watch"] for kind in (NAMESPACES, NODES, VIRTUAL_SERVICES)},
    }
    own = _rules(OBJECTS, "Role", "acmg-controller")
    assert own == {
        (PODS.group, PODS.plural): (["list", "watch"], []),
        (LEASES.group, LEASES.plural): (["create", "get", "update"], ["acmg-controller"]),
    }


@pytest.mark.parametrize("obj", [one for one in OBJECTS if one["kind"] in {"Role", "ClusterRole"}], ids=_name)
def test_no_right_is_for_everything(obj: Object) -> None:
    for rule in obj["rules"]:
        assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
        assert not any("*" in text for texts in rule.values() for text in texts)
        assert not {"secrets", "configmaps", "pods/exec"} & set(rule["resources"])
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])


@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_rights_are_bound_to_the_account_of_the_same_name(kind: str) -> None:
    for role in (obj for obj in OBJECTS if obj["kind"] == kind):
        name = role["metadata"]["name"]
        binding = only(OBJECTS, f"{kind}Binding", name)
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
        only(OBJECTS, "ServiceAccount", name)


# --- in agreement with the code ---------------------------------------------------------------------------------------------


def _arguments(workload: Object) -> dict[str, Any]:
    """Return what the command line makes of a container's arguments."""
    arguments = [argument.replace("$(POD_IP)", "10.0.0.1") for argument in _container(workload)["args"]]
    command, bound, _ = cli.app.parse_args(arguments, print_error=False, exit_on_error=False)
    assert command.__name__ == arguments[0]
    return dict(bound.arguments)


def _ports(workload: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in _container(workload)["ports"]}


@pytest.mark.parametrize("objects", [OBJECTS, DEMO], ids=["acmg", "demo"])
def test_gateway_starts_with_these_arguments(objects: list[Object]) -> None:
    gateway = only(objects, "DaemonSet")
    arguments = _arguments(gateway)
    assert arguments["kubernetes"] is True
    assert cli.parse_address(arguments["health"]) == ("10.0.0.1", _ports(gateway)["health"])
    assert cli.parse_address(arguments["admin"]) == ("127.0.0.1", 15000)


@pytest.mark.parametrize("objects", [OBJECTS, DEMO], ids=["acmg", "demo"])
def test_controller_starts_with_these_arguments(objects: list[Object]) -> None:
    controller = only(objects, "Deployment")
    arguments = _arguments(controller)
    assert arguments["namespace"] == NAMESPACE
    assert cli.parse_address(arguments["health"]) == ("10.0.0.1", _ports(controller)["health"])


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_address_of_either_family_can_be_listened_on(workload: Object) -> None:
    (health,) = (argument for argument in _container(workload)["args"] if argument.startswith("--health="))
    for address in ("10.0.0.1", "fd00::1"):
        host, _ = cli.parse_address(health.removeprefix("--health=").replace("$(POD_IP)", address))
        assert host == address


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_pod_is_told_who_it_is(workload: Object) -> None:
    told = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in _container(workload)["env"] if "valueFrom" in one}
    expected = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP"}
    if workload["kind"] == "DaemonSet":
        expected["POD_IPS"] = "status.podIPs"
    assert told == expected


@pytest.mark.parametrize("workload", WORKLOADS, ids=_name)
def test_pod_is_told_its_log_level(workload: Object) -> None:
    assert {"name": LEVEL_VARIABLE, "value": "info"} in _container(workload)["env"]


def test_policy_lets_callers_reach_every_gateway_port() -> None:
    anyone, health = only(OBJECTS, "NetworkPolicy", "acmg-gateway")["spec"]["ingress"]
    assert "from" not in anyone
    ranges = [range(port["port"], port.get("endPort", port["port"]) + 1) for port in anyone["ports"]]
    assert ranges == [range(15080, 15081), GATEWAY_PORTS]
    ports = _ports(only(OBJECTS, "DaemonSet"))
    assert ports == {"http": 15080, "health": 15021}
    assert [port["port"] for port in health["ports"]] == [ports["health"]]


def test_controller_may_ask_gateways_and_nobody_else_in_the_cluster() -> None:
    gateway = only(OBJECTS, "DaemonSet")["spec"]["selector"]
    controller = only(OBJECTS, "Deployment")["spec"]["selector"]
    *elsewhere, to_gateways = only(OBJECTS, "NetworkPolicy", "acmg-controller")["spec"]["egress"]
    assert to_gateways == {"to": [{"podSelector": gateway}], "ports": [{"protocol": "TCP", "port": 15021}]}
    assert {port["port"] for rule in elsewhere for port in rule["ports"]} == {443, 6443, 8443, 16443, 53}
    _, health = only(OBJECTS, "NetworkPolicy", "acmg-gateway")["spec"]["ingress"]
    assert {"podSelector": controller} in health["from"]


def test_gateways_run_on_their_nodes_in_spite_of_the_taint() -> None:
    pod = _pod(only(OBJECTS, "DaemonSet"))
    assert pod["nodeSelector"] == {"acmg.io/gateway": "true"}
    assert pod["tolerations"] == [{"key": "acmg.io/gateway", "operator": "Equal", "value": "true", "effect": "NoSchedule"}]


def test_new_gateway_is_there_before_the_old_one_goes() -> None:
    spec = only(OBJECTS, "DaemonSet")["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] >= 5


@pytest.mark.parametrize(
    "assignments", [(), ("gateway.drainAcceptSeconds=60", "gateway.drainTimeoutSeconds=600"), ("profile=demo",)]
)
def test_grace_is_longer_than_the_drain(assignments: tuple[str, ...]) -> None:
    gateway = only(render(parse_values(assignments)), "DaemonSet")
    settings = dict(
        argument.removeprefix("--set=").split("=", 1) for argument in _container(gateway)["args"] if argument.startswith("--set=")
    )
    drain = float(settings["drain_accept_s"]) + float(settings["drain_timeout_s"])
    pause = _container(gateway)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause >= 5
    assert _pod(gateway)["terminationGracePeriodSeconds"] >= pause + drain + 5


def test_probes_are_quick_for_readiness_and_slow_for_life() -> None:
    for workload in WORKLOADS:
        container = _container(workload)
        startup, ready, live = (container[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
        assert [probe["httpGet"] for probe in (startup, ready, live)] == [
            {"path": path, "port": "health"} for path in ("/healthz", "/ready", "/healthz")
        ]
        assert live["periodSeconds"] * live["failureThreshold"] >= 30
    ready = _container(only(OBJECTS, "DaemonSet"))["readinessProbe"]
    assert (ready["periodSeconds"], ready["failureThreshold"]) == (2, 1)


def test_controllers_are_apart_and_replaced_one_by_one() -> None:
    controller = only(OBJECTS, "Deployment")
    assert controller["spec"]["replicas"] == 2
    assert controller["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (term,) = _pod(controller)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert term["podAffinityTerm"]["labelSelector"] == controller["spec"]["selector"]
    (spread,) = _pod(controller)["topologySpreadConstraints"]
    assert spread["labelSelector"] == controller["spec"]["selector"]


def test_budget_of_gateways_is_a_number() -> None:
    """Pods whose owner cannot be scaled may have no other: the API server would refuse every eviction."""
    assert isinstance(only(OBJECTS, "PodDisruptionBudget", "acmg-gateway")["spec"]["minAvailable"], int)


def test_monitor_scrapes_a_port_that_is_there() -> None:
    monitor = only(build(DEPLOY / "components" / "monitoring"), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for workload in WORKLOADS:
        assert endpoint["port"] in _ports(workload)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_sample_asks_for_capture_and_leaves_addresses_to_the_cluster() -> None:
    service = only(SAMPLE, "Service")
    assert service["metadata"]["labels"]["acmg.io/capture"] == "enabled"
    assert "clusterIP" not in service["spec"]
    assert {obj["kind"] for obj in SAMPLE} == {"Service", "Deployment", "VirtualService", "DestinationRule"}
