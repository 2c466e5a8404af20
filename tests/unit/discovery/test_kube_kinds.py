# SPDX-License-Identifier: Apache-2.0
"""Where objects are in the API."""

from __future__ import annotations

import pytest

from discovery.kube import ENDPOINT_SLICES, GATEWAY_KINDS, NAMESPACES, SERVICES, VIRTUAL_SERVICES, ApiKind
from routing.resources import KINDS

CLUSTER_ROLES = ApiKind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (SERVICES.path(), "/api/v1/services"),
        (SERVICES.path("default"), "/api/v1/namespaces/default/services"),
        (SERVICES.path("default", "a"), "/api/v1/namespaces/default/services/a"),
        (SERVICES.path("default", "a", "status"), "/api/v1/namespaces/default/services/a/status"),
        (ENDPOINT_SLICES.path("ns"), "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"),
        (NAMESPACES.path(name="ns"), "/api/v1/namespaces/ns"),
        (NAMESPACES.path("ignored", "ns"), "/api/v1/namespaces/ns"),
        (CLUSTER_ROLES.path(name="system:a/b"), "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Aa%2Fb"),
    ],
)
def test_a_path_names_group_version_namespace_and_name(path: str, expected: str) -> None:
    assert path == expected


def test_objects_name_group_and_version() -> None:
    assert SERVICES.api_version == "v1"
    assert VIRTUAL_SERVICES.api_version == "networking.istio.io/v1"


def test_every_kind_that_routing_reads_is_watched_in_each_version_it_reads() -> None:
    watched = {
        kind.kind: {kind._replace(version=version).api_version for version in (kind.version, *kind.older)}
        for kind in GATEWAY_KINDS
    }
    assert watched == {kind: set(struct.api_versions) for kind, struct in KINDS.items()}
    assert {kind.kind: kind.namespaced for kind in GATEWAY_KINDS} == {kind: struct.namespaced for kind, struct in KINDS.items()}
