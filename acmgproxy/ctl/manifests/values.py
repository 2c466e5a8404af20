# SPDX-License-Identifier: Apache-2.0
"""Values: what an installation may have different from the manifests, and their form on the command line, `KEY=VALUE`.

The defaults are those of the manifests in deploy/, where the reason of each number is written. A profile is a set of defaults:
`acmg` for a cluster with nodes for gateways, `demo` for a small one on somebody's machine. The namespace is no value: gateways,
controller and tools all know it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast, get_args

from acmgproxy.assignments import SettingError, parse_settings
from acmgproxy.ctl.manifests._parsers import (
    Toleration,
    choice,
    cpu,
    flag,
    hub,
    labels,
    memory,
    number,
    tag,
    tolerations,
    workers,
    written,
)
from acmgproxy.release import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "ComponentResources",
    "ControllerValues",
    "GatewayValues",
    "MonitoringValues",
    "Profile",
    "Toleration",
    "Values",
    "ValuesError",
    "describe_keys",
    "known_keys",
    "parse_values",
]

Profile: TypeAlias = Literal["acmg", "demo"]
PullPolicy: TypeAlias = Literal["Always", "IfNotPresent", "Never"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_MAX_REPLICAS = 10
_MAX_DRAIN_S = 3600


class ValuesError(ValueError):
    """A value cannot be as it is said.

    Args:
        key: Which.
        reason: Why, and what is expected.
        nearest: A key that exists and looks alike, "" when there is none or `key` exists.
    """

    def __init__(self, key: str, reason: str, nearest: str = "") -> None:
        hint = f"; did you mean {nearest}?" if nearest else ""
        super().__init__(f"{key}: {reason}{hint}")
        self.key = key
        self.reason = reason
        self.nearest = nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentResources:
    """Requests and limits of a container, as Kubernetes quantities; "" for none."""

    requests_cpu: str
    requests_memory: str
    limits_cpu: str = ""
    limits_memory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayValues:
    """The gateways.

    Args:
        workers: Worker processes of each; 0 for one per core of the CPU limit or, without one, of the node.
        access_log: "off", or "-" for the container's standard output.
        drain_accept_s: How long a gateway that is told to stop goes on accepting connections.
        drain_timeout_s: How long it then waits for requests to end.
        node_selector: Labels of the nodes they run on; none for all nodes.
        tolerations: Taints of these nodes.
        resources: Of the container.
        settings: More settings of the workers, as for `acmgproxy run --set`.
    """

    workers: int = 0
    access_log: Literal["off", "-"] = "off"
    drain_accept_s: int = 10
    drain_timeout_s: int = 25
    node_selector: Mapping[str, str] = field(default_factory=lambda: {"acmg.io/gateway": "true"})
    tolerations: tuple[Toleration, ...] = (Toleration(key="acmg.io/gateway", value="true", effect="NoSchedule"),)
    resources: ComponentResources = ComponentResources(requests_cpu="1", requests_memory="512Mi", limits_memory="4Gi")
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerValues:
    """The controller."""

    replicas: int = 2
    resources: ComponentResources = ComponentResources(requests_cpu="100m", requests_memory="256Mi", limits_memory="1Gi")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringValues:
    """PodMonitor or ServiceMonitor, alerts, and dashboard. `labels` are for what a Prometheus may choose by them."""

    enabled: bool = False
    service_monitor: bool = False
    rules: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """An installation.

    Args:
        profile: The set of defaults that these began with.
        hub: Registry and path that the image is in; "" for an image that the nodes have.
        tag: The image's tag; that of this release by default.
        image_pull_policy: When nodes pull it.
        log_level: From which level on gateways and controller log.
        gateway, controller, monitoring: The parts.
        disruption_budgets: Whether evictions are limited.
        network_policies: Whether it is limited who may call gateways and controller.
    """

    profile: Profile = "acmg"
    hub: str = ""
    tag: str = field(default_factory=lambda: release().replace("+", "-"))
    image_pull_policy: PullPolicy = "IfNotPresent"
    log_level: LogLevel = "info"
    gateway: GatewayValues = field(default_factory=GatewayValues)
    controller: ControllerValues = field(default_factory=ControllerValues)
    monitoring: MonitoringValues = field(default_factory=MonitoringValues)
    disruption_budgets: bool = True
    network_policies: bool = True

    @classmethod
    def of_profile(cls, profile: Profile) -> Values:
        """Return the defaults of a profile."""
        if profile == "acmg":
            return cls()
        return cls(
            profile="demo",
            gateway=GatewayValues(
                workers=2,
                node_selector={},
                resources=ComponentResources(requests_cpu="100m", requests_memory="192Mi", limits_memory="768Mi"),
            ),
            controller=ControllerValues(
                replicas=1, resources=ComponentResources(requests_cpu="50m", requests_memory="128Mi", limits_memory="512Mi")
            ),
            disruption_budgets=False,
        )

    @property
    def image(self) -> str:
        """The image's full name."""
        return f"{self.hub}/acmgproxy:{self.tag}" if self.hub else f"acmgproxy:{self.tag}"


def known_keys() -> tuple[str, ...]:
    """Return every key, as `parse_values` knows them; `<name>` stands for any name."""
    return ("profile", *_KEYS, f"{_SETTINGS}<name>")


def describe_keys() -> list[tuple[str, str, str]]:
    """Return (key, default, meaning) of every key, for people."""
    defaults = Values()
    described: list[tuple[str, str, str]] = [
        ("profile", defaults.profile, "defaults of the other keys: `acmg` (nodes for gateways) or `demo` (one machine)")
    ]
    for name, key in _KEYS.items():
        value: Any = defaults
        for attribute in key.path:
            value = getattr(value, attribute)
        described.append((name, written(value), key.meaning))
    return [*described, (f"{_SETTINGS}<name>", "", "a setting of the workers, as for `acmgproxy run --set`")]


def parse_values(assignments: Iterable[str]) -> Values:
    """Read `KEY=VALUE` assignments; of several for one key the last counts, wherever `profile` stands.

    Raises:
        ValuesError: There is no such key, or the value is none for it.
    """
    pairs = [_split(assignment) for assignment in assignments]
    profile: Profile = "acmg"
    for key, text in pairs:
        if key == "profile":
            profile = cast("Profile", _parsed(key, choice(*get_args(Profile)), text))
    values = Values.of_profile(profile)
    for key, text in pairs:
        if key != "profile":
            values = _assigned(values, key, text)
    return values


def _split(assignment: str) -> tuple[str, str]:
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValuesError(repr(assignment), "expected KEY=VALUE", _nearest(key))
    return key, text.strip()


def _assigned(values: Values, name: str, text: str) -> Values:
    if name.startswith(_SETTINGS):
        return _with_setting(values, name, text)
    key = _KEYS.get(name)
    if key is None:
        raise ValuesError(name, "there is no such key", _nearest(name))
    return cast("Values", _replaced(values, key.path, _parsed(name, key.parse, text)))


def _with_setting(values: Values, key: str, text: str) -> Values:
    name = key.removeprefix(_SETTINGS)
    own = {"drain_accept_s": "gateway.drainAcceptSeconds", "drain_timeout_s": "gateway.drainTimeoutSeconds"}.get(name)
    if own is not None:
        raise ValuesError(key, f"is set by {own}, which the pod's grace period follows")
    try:
        parse_settings([f"{name}={text}"])
    except SettingError as error:
        raise ValuesError(key, str(error).partition(": ")[2]) from error
    settings = {**values.gateway.settings, name: text}
    return replace(values, gateway=replace(values.gateway, settings=settings))


def _replaced(part: Any, path: tuple[str, ...], value: object) -> object:
    first, *rest = path
    return replace(part, **{first: _replaced(getattr(part, first), tuple(rest), value) if rest else value})


def _parsed(key: str, parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except ValueError as error:
        raise ValuesError(key, str(error)) from None


def _nearest(key: str) -> str:
    matches = difflib.get_close_matches(key.lower(), [known.lower() for known in known_keys()], n=1)
    return next((known for known in known_keys() if matches and known.lower() == matches[0]), "")


class _Key(NamedTuple):
    """Where a value goes, how it is read, and what it means."""

    path: tuple[str, ...]
    parse: Callable[[str], object]
    meaning: str


def _resource_keys(component: str) -> dict[str, _Key]:
    return {
        f"{component}.resources.{kind}.{what}": _Key(
            (component, "resources", f"{kind}_{what}"), parse, f"{noun} of {what} of each {component} pod; empty for none"
        )
        for kind, noun in (("requests", "request"), ("limits", "limit"))
        for what, parse in (("cpu", cpu), ("memory", memory))
    }


_SETTINGS = "gateway.settings."

_KEYS: dict[str, _Key] = {
    "hub": _Key(("hub",), hub,
                "registry and path of the image, which is HUB/acmgproxy:TAG; empty for one that the nodes have"),
    "tag": _Key(("tag",), tag, "tag of the image"),
    "imagePullPolicy": _Key(("image_pull_policy",), choice(*get_args(PullPolicy)), "when nodes pull the image"),
    "logLevel": _Key(("log_level",), choice(*get_args(LogLevel)), "from which level on gateways and controller log"),
    "gateway.workers": _Key(("gateway", "workers"), workers,
                            "worker processes of each gateway; 0 or `auto`: one per core of its CPU limit, or of the node"),
    "gateway.accessLog": _Key(("gateway", "access_log"), choice("off", "-"), "`-`: requests are logged on standard output"),
    "gateway.drainAcceptSeconds": _Key(("gateway", "drain_accept_s"), number(0, _MAX_DRAIN_S),
                                       "how long a stopping gateway goes on accepting"),
    "gateway.drainTimeoutSeconds": _Key(("gateway", "drain_timeout_s"), number(0, _MAX_DRAIN_S),
                                        "how long it then waits for requests to end"),
    "gateway.nodeSelector": _Key(("gateway", "node_selector"), labels, "labels of the nodes of gateways; empty for all nodes"),
    "gateway.tolerations": _Key(("gateway", "tolerations"), tolerations, "taints of these nodes: KEY[=VALUE][:EFFECT],..."),
    **_resource_keys("gateway"),
    "controller.replicas": _Key(("controller", "replicas"), number(1, _MAX_REPLICAS), "controllers, of which one works"),
    **_resource_keys("controller"),
    "monitoring.enabled": _Key(("monitoring", "enabled"), flag, "PodMonitor and alerts (Prometheus operator), Grafana dashboard"),
    "monitoring.serviceMonitor": _Key(("monitoring", "service_monitor"), flag, "a Service and a ServiceMonitor, no PodMonitor"),
    "monitoring.rules": _Key(("monitoring", "rules"), flag, "alerts, as a PrometheusRule"),
    "monitoring.labels": _Key(("monitoring", "labels"), labels, "labels of monitor and alerts, such as release=prometheus"),
    "disruptionBudgets.enabled": _Key(("disruption_budgets",), flag, "PodDisruptionBudgets"),
    "networkPolicies.enabled": _Key(("network_policies",), flag, "NetworkPolicies"),
}  # fmt: skip
"""Every key but `profile` and the settings of workers."""
