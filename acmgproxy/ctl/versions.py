# SPDX-License-Identifier: Apache-2.0
"""`acmgctl version`: this release, and what runs in the cluster if that can be asked. It needs no cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.ctl.cluster import NAMESPACE, OURS, CtlError, Where, connected, list_all, run
from acmgproxy.ctl.gateways import image_version
from acmgproxy.ctl.terminal import print_json, say
from acmgproxy.release import release
from discovery.kube import PODS, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from acmgproxy.ctl.cluster import Object

__all__ = ["count_versions", "run_version"]


def run_version(where: Where, *, as_json: bool) -> int:
    """Print the versions; return the exit code, 0 also without a cluster."""
    return run(lambda: _version(where, as_json=as_json))


async def _version(where: Where, *, as_json: bool) -> int:
    found: dict[str, dict[str, int]] | None = None
    why = ""
    try:
        async with connected(where) as client:
            found = count_versions(await list_all(client, PODS.path(NAMESPACE), labelSelector=OURS))
    except (CtlError, ConfigError) as error:
        why = str(error)
    if as_json:
        print_json({"client": release(), "cluster": found, "reason": why})
        return 0
    say(f"client: {release()}")
    for component, versions in (found or {}).items():
        say(f"{component}: {', '.join(f'{version} ({count} pods)' for version, count in versions.items())}")
    if found is None:
        say(f"cluster: not asked: {why}", style="dim")
    elif not found:
        say("cluster: acmgproxy does not run here", style="dim")
    return 0


def count_versions(pods: Iterable[Object]) -> dict[str, dict[str, int]]:
    """Count pods by component and version."""
    found: dict[str, dict[str, int]] = {}
    for pod in pods:
        component = found.setdefault(pod["metadata"]["labels"].get("app.kubernetes.io/component", "?"), {})
        version = image_version(pod)
        component[version] = component.get(version, 0) + 1
    return {component: dict(sorted(versions.items())) for component, versions in sorted(found.items())}
