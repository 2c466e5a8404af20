# SPDX-License-Identifier: Apache-2.0
"""What the server refuses to store, as far as clients of this project could write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kube.crds import check_definition
from tests.kube.validation.endpoint_slices import check_endpoint_slice
from tests.kube.validation.metadata import check_metadata
from tests.kube.validation.others import check_core_event, check_event, check_lease, check_workload
from tests.kube.validation.services import check_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kube.cluster_ips import ClusterIps
    from tests.kube.errors import Cause
    from tests.kube.kinds import Kind

    Check = Callable[[dict[str, Any], dict[str, Any] | None], Iterator[Cause]]

__all__ = ["Validator"]


class Validator:
    """Checks objects; `custom` checks those of kinds that a CustomResourceDefinition defines."""

    def __init__(self, cluster_ips: ClusterIps, *, allow_loopback: bool = False) -> None:
        self.custom: Callable[[Kind, dict[str, Any]], list[Cause]] = lambda kind, obj: []
        self._cluster_ips = cluster_ips
        self._allow_loopback = allow_loopback
        self._checks: dict[tuple[str, str], Check] = {
            ("", "services"): self._service,
            ("discovery.k8s.io", "endpointslices"): self._slice,
            ("apiextensions.k8s.io", "customresourcedefinitions"): check_definition,
            ("coordination.k8s.io", "leases"): check_lease,
            ("", "events"): check_core_event,
            ("events.k8s.io", "events"): check_event,
            **{("apps", plural): check_workload for plural in ("deployments", "daemonsets", "replicasets")},
        }

    def __call__(self, kind: Kind, obj: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        """Return what is wrong with an object; `old` is what it is to replace."""
        causes = list(check_metadata(kind, obj["metadata"], (old or {}).get("metadata")))
        if kind.custom:
            return causes + self.custom(kind, obj)
        if (check := self._checks.get(kind.key)) is not None:
            causes += check(obj, old)
        return causes

    def _service(self, obj: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
        return check_service(obj, old, self._cluster_ips)

    def _slice(self, obj: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Cause]:
        return check_endpoint_slice(obj, old, allow_loopback=self._allow_loopback)
