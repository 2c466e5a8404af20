# SPDX-License-Identifier: Apache-2.0
"""What is installed in a cluster, as objects.

The manifests in deploy/ are the one source: kustomize builds them as they stand, and `render` gives the same objects with what
the `Values` of an installation change about them. Nothing here talks to a cluster.
"""

from __future__ import annotations

from acmgproxy.ctl.manifests.data import ManifestsError, directory, load
from acmgproxy.ctl.manifests.render import NAMESPACE, PART_LABELS, render, to_yaml
from acmgproxy.ctl.manifests.values import Profile, Toleration, Values, ValuesError, describe_keys, known_keys, parse_values

__all__ = [
    "NAMESPACE",
    "PART_LABELS",
    "ManifestsError",
    "Profile",
    "Toleration",
    "Values",
    "ValuesError",
    "describe_keys",
    "directory",
    "known_keys",
    "load",
    "parse_values",
    "render",
    "to_yaml",
]
