# SPDX-License-Identifier: Apache-2.0
"""Tests of routing.resources: what a ServiceEntry is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from routing.resources import ResourceError, ServiceEntry, decode
from tests.unit.routing.objects import service_entry


def _problems(**spec: Any) -> list[tuple[str, str]]:
    obj = service_entry("se", ["x.test"], resolution="DNS")
    obj["spec"] |= spec
    try:
        decode(obj)
    except ResourceError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_served_version_is_read(version: str) -> None:
    obj = service_entry("se", ["x.test"])
    obj["apiVersion"] = f"networking.istio.io/{version}"
    found = decode(obj)
    assert isinstance(found, ServiceEntry)
    assert found.spec.hosts == ("x.test",)


def test_a_full_entry() -> None:
    endpoint = {
        "address": "10.0.0.1",
        "ports": {"http": 8080},
        "labels": {"app": "x"},
        "locality": "r/z",
        "weight": 3,
        "serviceAccount": "sa",
    }
    fields = {
        "hosts": ["x.test", "*.y.test"],
        "addresses": ["10.0.0.1", "10.0.0.0/8", "fd00::1"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "endpoints": [endpoint],
        "exportTo": ["~"],
        "subjectAltNames": ["x"],
    }
    obj = service_entry("se", [])
    obj["spec"] |= fields
    found = decode(obj)
    assert isinstance(found, ServiceEntry)
    assert found.spec.endpoints[0].ports == {"http": 8080}
    assert found.notes == ()


def _port(number: int, name: str) -> dict[str, Any]:
    return {"number": number, "name": name, "protocol": "HTTP"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"hosts": []}, ("spec.hosts", "there must be 1 to 256 hosts")),
        ({"hosts": ["*"], "resolution": "NONE"}, ("spec.hosts[0]", "`*` is not allowed")),
        ({"hosts": ["a b"]}, ("spec.hosts[0]", "is neither a DNS name nor an IP address")),
        ({"hosts": ["*.x.test"]}, ("spec.hosts", "a wildcard with resolution DNS requires endpoints")),
        ({"ports": []}, ("spec.ports", "there must be at least one port")),
        ({"ports": [_port(1, "a"), _port(2, "a")]}, ("spec.ports[1].name", "must be given, and only once")),
        ({"ports": [_port(1, "")]}, ("spec.ports[0].name", "must be given, and only once")),
        ({"ports": [_port(1, "a"), _port(1, "b")]}, ("spec.ports[1].number", "1 is given twice")),
        ({"addresses": ["x"]}, ("spec.addresses[0]", "'x' is neither an IP address nor a range of them")),
        ({"exportTo": ["~", "."]}, ("spec.exportTo", "`~` hides the object from all; the other entries contradict it")),
        (
            {"endpoints": [{"address": "y.test"}], "workloadSelector": {"labels": {}}},
            ("spec", "endpoints and workloadSelector exclude each other"),
        ),
        (
            {"resolution": "NONE", "endpoints": [{"address": "y.test"}]},
            ("spec.endpoints", "must not be given with resolution NONE"),
        ),
        ({"resolution": "STATIC"}, ("spec.endpoints", "resolution STATIC requires endpoints or a workloadSelector")),
        (
            {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "y.test"}, {"address": "z.test"}]},
            ("spec.endpoints", "resolution DNS_ROUND_ROBIN allows only one"),
        ),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "y.test"}]},
            ("spec.endpoints[0].address", "'y.test' is not an IP address, as resolution STATIC requires"),
        ),
        ({"endpoints": [{"address": ""}]}, ("spec.endpoints[0].address", "must not be empty")),
        ({"endpoints": [{"address": "unix:///x"}]}, ("spec.endpoints[0].address", "Unix sockets are not supported")),
        (
            {"endpoints": [{"address": "y.test", "ports": {"x": 1}}]},
            ("spec.endpoints[0].ports.x", "there is no port of that name in spec.ports"),
        ),
        (
            {"endpoints": [{"address": "y.test", "locality": "r/*"}]},
            ("spec.endpoints[0].locality", "'r/*' is not a locality: region, region/zone or region/zone/subzone"),
        ),
    ],
)
def test_what_is_refused(spec: dict[str, Any], expected: tuple[str, str]) -> None:
    assert _problems(**spec) == [expected]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"resolution": "STATIC", "workloadSelector": {"labels": {"app": "x"}}},
        {"hosts": ["*.x.test"], "endpoints": [{"address": "y.test"}]},
        {"hosts": ["*.x.test"], "resolution": "NONE"},
    ],
)
def test_what_is_valid(spec: dict[str, Any]) -> None:
    assert _problems(**spec) == []
