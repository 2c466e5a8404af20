# SPDX-License-Identifier: Apache-2.0
"""Builders of Kubernetes objects as YAML gives them, for the tests of routing's control side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routing.capture import GATEWAY_PORTS_ANNOTATION, SHADOW_LABEL, SHADOW_OF_LABEL, format_gateway_ports
from routing.resources import DestinationRule, VirtualService, decode
from routing.store import Store
from routing.translate import TranslateOptions, Translation, translate

if TYPE_CHECKING:
    from routing.specs import RuleSetSpec, RuleSpec

Obj = dict[str, Any]

PORTS = [{"name": "http", "port": 80}, {"name": "http-alt", "port": 8080}]


def make(kind: str, name: str, namespace: str = "default", *, version: str = "v1", created: str = "", **fields: Any) -> Obj:
    meta: Obj = {"name": name, "namespace": namespace}
    for key in ("labels", "annotations", "uid", "ownerReferences", "deletionTimestamp"):
        if key in fields:
            meta[key] = fields.pop(key)
    if created:
        meta["creationTimestamp"] = f"{created}T00:00:00Z"
    return {"apiVersion": version, "kind": kind, "metadata": meta, **fields}


def service(name: str, namespace: str = "default", *, created: str = "", ports: Any = None, **spec: Any) -> Obj:
    """A Service whose ports say that they are HTTP, unless they say something else."""
    ports = [{"appProtocol": "http", **port} for port in (PORTS if ports is None else ports)]
    annotations = spec.pop("annotations", {})
    return make("Service", name, namespace, created=created, annotations=annotations, spec={"ports": ports, **spec})


def shadow(
    of: str, namespace: str = "default", *, name: str = "", ports: Any = None, gateway_ports: Any = None, **meta: Any
) -> Obj:
    """The shadow of a captured Service; `gateway_ports` is the annotation, as a map or as it stands."""
    ports = [{"name": "http", "port": 80}, {"name": "http-alt", "port": 8080}] if ports is None else ports
    text = gateway_ports if isinstance(gateway_ports, str) else format_gateway_ports(gateway_ports or {})
    annotations = {} if gateway_ports is None else {GATEWAY_PORTS_ANNOTATION: text}
    labels = {SHADOW_LABEL: "true"} | ({SHADOW_OF_LABEL: of} if of else {})
    spec = {"clusterIP": "None", "ports": ports}
    return make("Service", name or f"{of}-acmg", namespace, labels=labels, annotations=annotations, spec=spec, **meta)


def shadow_slice(of: str, *endpoints: Obj, namespace: str = "default", name: str = "", **fields: Any) -> Obj:
    """A slice of the shadow of a Service."""
    found = endpoint_slice(f"{of}-acmg", *endpoints, namespace=namespace, name=name, **fields)
    found["metadata"]["labels"] |= {SHADOW_LABEL: "true", SHADOW_OF_LABEL: of}
    return found


def pod(name: str, ip: str = "", namespace: str = "default", *, phase: str = "Running", **fields: Any) -> Obj:
    spec = {key: fields.pop(key) for key in ("hostNetwork", "serviceAccountName") if key in fields}
    status = {"phase": phase, "podIP": ip, "conditions": fields.pop("conditions", [])}
    return make("Pod", name, namespace, spec=spec, status=status, **fields)


def endpoint(ip: str, pod_name: str = "", *, zone: str = "", uid: str = "", hostname: str = "", **conditions: Any) -> Obj:
    found: Obj = {"addresses": [ip], "conditions": conditions, "zone": zone or None, "hostname": hostname or None}
    if pod_name:
        found["targetRef"] = {"kind": "Pod", "name": pod_name, "uid": uid}
    return found


def endpoint_slice(of: str, *endpoints: Obj, namespace: str = "default", name: str = "", **fields: Any) -> Obj:
    ports = fields.pop("ports", [{"name": "http", "port": 8080}, {"name": "http-alt", "port": 8090}])
    labels = {"kubernetes.io/service-name": of} if of else {}
    return make(
        "EndpointSlice",
        name or f"{of}-1",
        namespace,
        version="discovery.k8s.io/v1",
        labels=labels,
        addressType=fields.pop("addressType", "IPv4"),
        endpoints=list(endpoints),
        ports=ports,
        **fields,
    )


def virtual_service(name: str, hosts: list[str], *http: Obj, namespace: str = "default", created: str = "", **spec: Any) -> Obj:
    spec = {"hosts": hosts, "http": list(http) or [{"route": [to("b")]}], **spec}
    return make("VirtualService", name, namespace, version="networking.istio.io/v1", created=created, spec=spec)


def destination_rule(name: str, host: str, *subsets: Obj, namespace: str = "default", created: str = "", **spec: Any) -> Obj:
    annotations = spec.pop("annotations", {})
    spec = {"host": host, "subsets": list(subsets), **spec}
    version = "networking.istio.io/v1"
    return make("DestinationRule", name, namespace, version=version, created=created, annotations=annotations, spec=spec)


def service_entry(name: str, hosts: list[str], namespace: str = "default", *, created: str = "", **spec: Any) -> Obj:
    """A ServiceEntry with an HTTP port 80."""
    annotations = spec.pop("annotations", {})
    spec = {"hosts": hosts, "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], **spec}
    version = "networking.istio.io/v1"
    return make("ServiceEntry", name, namespace, version=version, created=created, annotations=annotations, spec=spec)


def telemetry(name: str = "default", namespace: str = "default", *, created: str = "", **spec: Any) -> Obj:
    return make("Telemetry", name, namespace, version="telemetry.istio.io/v1", created=created, spec=spec)


def to(host: str, subset: str = "", *, weight: int | None = None, port: int = 0, headers: Obj | None = None) -> Obj:
    """One entry of `route`."""
    destination: Obj = {"host": host, "subset": subset, "port": {"number": port} if port else None}
    return {"destination": destination, "weight": weight, "headers": headers}


def subset(name: str, policy: Obj | None = None, **labels: str) -> Obj:
    return {"name": name, "labels": labels, "trafficPolicy": policy}


def store(*objects: Obj) -> Store:
    return Store(decode(obj) for obj in objects)


def translated(*objects: Obj, **options: Any) -> Translation:
    return translate(store(*objects), TranslateOptions(**options))


def codes(translation: Translation) -> list[tuple[str, str, str]]:
    """Code, object and field of each diagnostic."""
    return [(found.code, f"{found.namespace}/{found.name}", found.field) for found in translation.diagnostics]


def rules_of(translation: Translation, name: str = "default/vs", port: int = 80) -> tuple[RuleSpec, ...]:
    rule_set: RuleSetSpec = translation.specs.rule_sets[f"virtualservice/{name}@{port}"]
    return rule_set.rules


def rule_of(http: Obj, *others: Obj, port: int = 80) -> RuleSpec:
    """The one rule of a VirtualService for host b."""
    world = (service("b"), service("c", ports=[{"port": 7000}]))
    (rule,) = rules_of(translated(*world, virtual_service("vs", ["b"], http), *others), port=port)
    return rule


def decoded_vs(obj: Obj) -> VirtualService:
    found = decode(obj)
    assert isinstance(found, VirtualService)
    return found


def decoded_dr(obj: Obj) -> DestinationRule:
    found = decode(obj)
    assert isinstance(found, DestinationRule)
    return found
