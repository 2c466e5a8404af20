# SPDX-License-Identifier: Apache-2.0
"""Small worlds of objects that have to do with each other: few names, addresses and labels, so that they meet often."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from routing.resources import decode
from tests.unit.routing.objects import (
    destination_rule,
    endpoint,
    endpoint_slice,
    pod,
    service,
    service_entry,
    shadow,
    shadow_slice,
    subset,
    telemetry,
    to,
    virtual_service,
)

__all__ = ["OBJECTS", "WORLDS"]

_NAMES = st.sampled_from(["a", "b"])
_SPACES = st.sampled_from(["n", "m", "istio-system"])
_DATES = st.sampled_from(["", "2024-01-01", "2024-01-02"])
_IPS = st.sampled_from(["127.0.0.1", "127.0.0.2", "127.0.0.3"])
_HOSTS = st.sampled_from(
    [
        "a",
        "b",
        "a.n",
        "b.m.svc",
        "a.n.svc.cluster.local",
        "*.n.svc.cluster.local",
        "*.cluster.local",
        "*.local",
        "x.test",
        "*.test",
    ]
)
_LABELS = st.dictionaries(st.sampled_from(["app", "version"]), st.sampled_from(["1", "2"]))
_EXPORTS = st.sampled_from([[], ["*"], ["."], ["third"], ["other", "."]])
_FLAGS = st.sampled_from([None, True, False])

_PORTS = st.sampled_from([None, [{"name": "http", "port": 80}]])
_SERVICES = st.builds(service, _NAMES, _SPACES, created=_DATES, clusterIP=st.one_of(_IPS, st.just("None")), ports=_PORTS)
_TARGETS = st.sampled_from(["a.n.svc.cluster.local", "b.m.svc.cluster.local", "x.test", "p.a.n.svc.cluster.local", "127.0.0.1"])
_ALIASES = st.builds(
    lambda name, namespace, target, ports: service(name, namespace, type="ExternalName", externalName=target, ports=ports),
    _NAMES,
    _SPACES,
    _TARGETS,
    st.sampled_from([[], [{"port": 81}]]),
)
_PODS = st.builds(pod, st.sampled_from(["p", "q"]), _IPS, _SPACES, phase=st.sampled_from(["Running", "Failed"]), labels=_LABELS)
_ENDPOINTS = st.builds(endpoint, _IPS, st.sampled_from(["", "p", "q"]), ready=_FLAGS, serving=_FLAGS, terminating=_FLAGS)
_SLICES = st.builds(
    lambda of, members, namespace, name: endpoint_slice(of, *members, namespace=namespace, name=name),
    _NAMES,
    st.lists(_ENDPOINTS, max_size=3),
    _SPACES,
    _NAMES,
)


@st.composite
def _virtual_services(draw: st.DrawFn) -> dict[str, Any]:
    match = draw(st.sampled_from([None, [{"port": 80}], [{"port": 81}], [{"sourceNamespace": "m"}]]))
    route = [to(draw(_HOSTS.filter(lambda host: not host.startswith("*"))), draw(st.sampled_from(["", "s"])))]
    hosts = [draw(_HOSTS)]
    return virtual_service(
        draw(_NAMES),
        hosts,
        {"match": match, "route": route},
        namespace=draw(_SPACES),
        created=draw(_DATES),
        gateways=draw(st.sampled_from([[], ["mesh"], ["acmg-gateway"], ["ingress"]])),
        exportTo=draw(_EXPORTS),
    )


@st.composite
def _destination_rules(draw: st.DrawFn) -> dict[str, Any]:
    subsets = draw(st.lists(st.builds(lambda labels: subset("s", **labels), _LABELS), max_size=1))
    return destination_rule(
        draw(_NAMES), draw(_HOSTS), *subsets, namespace=draw(_SPACES), created=draw(_DATES), exportTo=draw(_EXPORTS)
    )


@st.composite
def _service_entries(draw: st.DrawFn) -> dict[str, Any]:
    hosts = [draw(st.sampled_from(["x.test", "y.test", "a.n.svc.cluster.local", "b.m", "p.a.n.svc", "*.test"]))]
    static: dict[str, Any] = {"resolution": "STATIC", "endpoints": [{"address": draw(_IPS), "labels": draw(_LABELS)}]}
    selecting: dict[str, Any] = {"resolution": "STATIC", "workloadSelector": {"labels": draw(_LABELS)}}
    named: dict[str, Any] = {"resolution": "DNS", "endpoints": [{"address": "z.test"}]}
    how = draw(st.sampled_from([static, selecting, named, {"resolution": "NONE"}]))
    return service_entry(
        draw(_NAMES),
        hosts,
        draw(_SPACES),
        created=draw(_DATES),
        addresses=draw(st.lists(_IPS, max_size=1)),
        exportTo=draw(_EXPORTS),
        **how,
    )


_SHADOWS = st.builds(
    lambda of, namespace, ports, created: shadow(of, namespace, gateway_ports=ports, created=created),
    _NAMES,
    _SPACES,
    st.sampled_from([None, "bad", {80: 20000}, {80: 20001, 8080: 20000}]),
    _DATES,
)
_SHADOW_SLICES = st.builds(
    lambda of, members, namespace: shadow_slice(of, *members, namespace=namespace),
    _NAMES,
    st.lists(_ENDPOINTS, max_size=3),
    _SPACES,
)

_TARGETED: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.builds(lambda name: {"targetRefs": [{"kind": "Service", "name": name}]}, _NAMES),
    st.builds(lambda labels: {"selector": {"matchLabels": labels}}, _LABELS),
)
_LOGGING = st.sampled_from(
    [
        [],
        [{}],
        [{"disabled": True}],
        [{"filter": {"expression": "response.code >= 500"}}],
        [{"providers": [{"name": "otel"}]}, {"match": {"mode": "CLIENT"}}],
    ]
)
_TRACING = st.sampled_from(
    [[], [{"randomSamplingPercentage": 5}], [{"disableSpanReporting": True}], [{"providers": [{"name": "z"}]}]]
)
_TELEMETRIES = st.builds(
    lambda name, namespace, created, targeted, logging, tracing: telemetry(
        name, namespace, created=created, accessLogging=logging, tracing=tracing, **targeted
    ),
    _NAMES,
    _SPACES,
    _DATES,
    _TARGETED,
    _LOGGING,
    _TRACING,
)

_KINDS = (
    _TELEMETRIES,
    _SERVICES,
    _ALIASES,
    _PODS,
    _SLICES,
    _SHADOWS,
    _SHADOW_SLICES,
    _service_entries(),
    _virtual_services(),
    _destination_rules(),
)
OBJECTS = st.one_of(*_KINDS).map(decode)
WORLDS = st.lists(OBJECTS, max_size=14)
