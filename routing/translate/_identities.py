# SPDX-License-Identifier: Apache-2.0
"""Identities: who the pods are, as callers and as endpoints.

Pods of one workload are equal in everything an identity holds, so equal ones share one spec; its key is a digest of the content
and therefore the same in every translation.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from routing.specs import IdentitySpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from routing.resources import Pod
    from routing.store import Store

__all__ = ["Identities", "identity_of", "pod_locality", "translate_callers", "workload_name"]

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def workload_name(pod: Pod) -> str:
    """Return the name of the workload a Pod belongs to: its owner, with the Deployment in place of its ReplicaSet."""
    owners = pod.meta.owner_references
    if not owners:
        return pod.meta.name
    owner = next((entry for entry in owners if entry.controller), owners[0])
    if owner.kind == "ReplicaSet" and (template := pod.meta.labels.get("pod-template-hash")):
        return owner.name.removesuffix(f"-{template}")
    return owner.name


def pod_locality(labels: Mapping[str, str]) -> str:
    """Return a Pod's locality, `region/zone/subzone`, by its labels, "" when they do not tell.

    `istio-locality` goes first; its parts are separated by dots, since a label may not hold slashes.
    """
    if given := labels.get("istio-locality"):
        return given if "/" in given else given.replace(".", "/")
    parts = (labels.get(name, "") for name in _TOPOLOGY)
    return "/".join(parts).rstrip("/")


class Identities:
    """Interns identities. `specs` holds those asked for so far.

    Args:
        known: Keys and specs by the id of Pods that were asked for before and are still there; shared by several, so that a
            Pod which is both caller and endpoint is looked at once.
    """

    __slots__ = ("_keys", "_known", "specs")

    def __init__(self, known: dict[int, tuple[str, IdentitySpec]] | None = None) -> None:
        self._keys: dict[tuple[str, str, str, frozenset[tuple[str, str]]], str] = {}
        self._known = {} if known is None else known
        self.specs: dict[str, IdentitySpec] = {}

    def __repr__(self) -> str:
        return f"<Identities {len(self.specs)}>"

    def key(self, pod: Pod) -> str:
        """Return the key of a Pod's identity."""
        known = self._known.get(id(pod))
        if known is not None:
            self.specs[known[0]] = known[1]
            return known[0]
        labels, workload = pod.meta.labels, workload_name(pod)
        content = (pod.meta.namespace, pod.spec.service_account_name, workload, frozenset(labels.items()))
        key = self._keys.get(content)
        if key is None:
            spec = identity_of(pod.meta.namespace, labels, pod.spec.service_account_name, workload)
            key = self._keys[content] = self.intern(spec)
        self._known[id(pod)] = key, self.specs[key]
        return key

    def intern(self, spec: IdentitySpec) -> str:
        """Return the key of an identity."""
        digest = blake2b(msgspec.msgpack.encode(spec), digest_size=8).hexdigest()
        key = f"{spec.namespace}/{spec.workload}/{digest}"
        self.specs[key] = spec
        return key


def identity_of(namespace: str, labels: Mapping[str, str], service_account: str, workload: str) -> IdentitySpec:
    """Return the identity of a workload."""

    def first(*names: str, default: str) -> str:
        return next((value for name in names if (value := labels.get(name))), default)

    return IdentitySpec(
        namespace=namespace,
        labels=dict(sorted(labels.items())),
        service_account=service_account or "default",
        workload=workload,
        app=first("app", default="unknown"),
        version=first("version", default="unknown"),
        canonical_service=first("service.istio.io/canonical-name", "app.kubernetes.io/name", "app", default=workload),
        canonical_revision=first("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version", default="latest"),
        locality=pod_locality(labels),
    )


def translate_callers(
    store: Store, identities: Identities, addresses: Iterable[str]
) -> tuple[dict[str, str], dict[str, tuple[Pod, Pod]]]:
    """Return the identity key of the caller behind each address, and the disputed addresses.

    Args:
        store: The objects.
        identities: Where identities are interned.
        addresses: The addresses; one that is missing in the answer belongs to no caller (any more).

    Returns:
        Keys by address; and by address two running Pods that claim it, first the one that is believed.
    """
    callers: dict[str, str] = {}
    disputed: dict[str, tuple[Pod, Pod]] = {}
    for address in addresses:
        claims = [pod for pod in store.pods_at(address) if _may_call(pod)]
        if not claims:
            continue
        if len(claims) > 1:
            claims.sort(key=_preference)
            if _preference(claims[-2])[:2] == (True, True):
                disputed[address] = claims[-1], claims[-2]
        callers[address] = identities.key(claims[-1])
    return callers, disputed


def _may_call(pod: Pod) -> bool:
    """Tell whether an address of the Pod tells it apart: a node's address does not, a finished Pod's is free for others.

    A pending Pod with an address runs its init containers.
    """
    return not pod.spec.host_network and pod.status.phase not in {"Succeeded", "Failed"}


def _preference(pod: Pod) -> tuple[bool, bool, tuple[object, ...]]:
    """Sort key of the Pods that claim one address, the most credible last."""
    return pod.status.phase in {"Running", ""}, pod.meta.deletion_timestamp is None, pod.meta.age
