# SPDX-License-Identifier: Apache-2.0
"""The composition root: puts the gateway together. The only part of the data plane's program that knows where objects come from.

`options` (what it is told), `sources` (files or Kubernetes), `reports` (what is said about the objects), `view` and `listing`
(what the admin server shows), `gateway` (its life).
"""

from __future__ import annotations

from acmgproxy.app.gateway import Gateway, run_gateway
from acmgproxy.app.options import KubernetesOptions, RunOptions
from acmgproxy.release import release

__all__ = ["Gateway", "KubernetesOptions", "RunOptions", "release", "run_gateway"]
