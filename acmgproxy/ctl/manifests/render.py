# SPDX-License-Identifier: Apache-2.0
"""Renders values: the objects of an installation, in an order in which they can be applied one after the other.

What is rendered for the defaults of a profile is what kustomize builds from its overlay; only what values change is set here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import yaml

from acmgproxy.ctl.manifests.data import load
from acmgproxy.log import LEVEL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from acmgproxy.ctl.manifests.values import ComponentResources, Toleration, Values

__all__ = ["NAMESPACE", "PART_LABELS", "render", "to_yaml"]

NAMESPACE: Final = "acmg-system"

PART_LABELS: Final = {"app.kubernetes.io/name": "acmgproxy"}
"""Labels of everything that is rendered, the CRDs included."""

PRE_STOP_S: Final = 5
"""How long a gateway's pod goes on as before when it is told to stop, while it is taken out of endpoints."""

_GRACE_MARGIN_S = 20
"""What a gateway's grace period has beyond its drain: time to give up what did not end, and to log it."""

_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Service",
    "NetworkPolicy",
    "DaemonSet",
    "Deployment",
    "PodDisruptionBudget",
    "ServiceMonitor",
    "PodMonitor",
    "PrometheusRule",
)
"""What must be there before what. Gateways come before the controller, which waits for them."""


def render(values: Values) -> list[dict[str, Any]]:
    """Return the objects of an installation. They are the caller's to change.

    Raises:
        ManifestsError: The manifests are missing.
    """
    objects = [*load("crds"), *load("base")]
    if values.monitoring.enabled:
        objects += [*load("components", "monitoring"), *load("dashboards")]
        if values.monitoring.service_monitor:
            objects += load("components", "service-monitor")
    objects = [obj for obj in objects if _is_wanted(obj, values)]
    for obj in objects:
        _fill(obj, values)
    return sorted(objects, key=lambda obj: _ORDER.index(obj["kind"]))


def to_yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    """Write objects as a stream of YAML documents that any version of YAML reads alike."""
    return "---\n".join(yaml.dump(dict(obj), Dumper=_Dumper, sort_keys=False, width=130, allow_unicode=True) for obj in objects)


def _is_wanted(obj: dict[str, Any], values: Values) -> bool:
    wanted = {
        "PodDisruptionBudget": values.disruption_budgets,
        "NetworkPolicy": values.network_policies,
        "PodMonitor": not values.monitoring.service_monitor,
        "PrometheusRule": values.monitoring.rules,
    }
    return wanted.get(obj["kind"], True)


def _fill(obj: dict[str, Any], values: Values) -> None:
    if obj["kind"] == "DaemonSet":
        _fill_gateway(obj["spec"]["template"]["spec"], values)
    elif obj["kind"] == "Deployment":
        obj["spec"]["replicas"] = values.controller.replicas
        _fill_container(obj["spec"]["template"]["spec"]["containers"][0], values, values.controller.resources)
    elif obj["kind"] in {"PodMonitor", "ServiceMonitor", "PrometheusRule"}:
        obj["metadata"]["labels"].update(values.monitoring.labels)


def _fill_gateway(pod: dict[str, Any], values: Values) -> None:
    gateway = values.gateway
    (container,) = pod["containers"]
    _fill_container(container, values, gateway.resources)
    container["args"] = _gateway_args(container["args"], values)
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}
    pod["terminationGracePeriodSeconds"] = PRE_STOP_S + gateway.drain_accept_s + gateway.drain_timeout_s + _GRACE_MARGIN_S
    _set_or_drop(pod, "nodeSelector", dict(gateway.node_selector))
    _set_or_drop(pod, "tolerations", [_toleration(one) for one in gateway.tolerations])


def _gateway_args(args: list[str], values: Values) -> list[str]:
    gateway = values.gateway
    kept = [arg for arg in args if not arg.startswith(("--access-log=", "--set="))]
    settings = {
        "drain_accept_s": str(gateway.drain_accept_s),
        "drain_timeout_s": str(gateway.drain_timeout_s),
        **gateway.settings,
    }
    # Left to itself a gateway starts a worker for each processor of the node, whatever the container may use of them.
    workers = gateway.workers or _whole_cores(gateway.resources.limits_cpu)
    return [
        *kept,
        f"--access-log={gateway.access_log}",
        *(f"--set={name}={text}" for name, text in settings.items()),
        *([f"--workers={workers}"] if workers else []),
    ]


def _whole_cores(cpu: str) -> int:
    """Return how many processors a quantity keeps busy, 0 for none."""
    return math.ceil(float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)) if cpu else 0


def _fill_container(container: dict[str, Any], values: Values, resources: ComponentResources) -> None:
    container["image"] = values.image
    container["imagePullPolicy"] = values.image_pull_policy
    for variable in container["env"]:
        if variable["name"] == LEVEL_VARIABLE:
            variable["value"] = values.log_level
    rendered = {
        "requests": _without_empty({"cpu": resources.requests_cpu, "memory": resources.requests_memory}),
        "limits": _without_empty({"cpu": resources.limits_cpu, "memory": resources.limits_memory}),
    }
    _set_or_drop(container, "resources", {kind: quantities for kind, quantities in rendered.items() if quantities})


def _toleration(toleration: Toleration) -> dict[str, str]:
    how = {"operator": "Equal", "value": toleration.value} if toleration.value else {"operator": "Exists"}
    return _without_empty({"key": toleration.key, **how, "effect": toleration.effect})


def _without_empty(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text}


def _set_or_drop(owner: dict[str, Any], name: str, value: Any) -> None:
    if value:
        owner[name] = value
    else:
        owner.pop(name, None)


class _Dumper(yaml.CSafeDumper):
    """Quotes what YAML 1.1 and 1.2 read differently, and repeats what occurs twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    is_ambiguous = text[:1] in set("0123456789+-.") or text in {"y", "Y", "n", "N"}
    style = "|" if "\n" in text else '"' if is_ambiguous else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
