# SPDX-License-Identifier: Apache-2.0
"""A fake Kubernetes API server over real HTTP, faithful where clients can tell (see `tests.kube.server`).

`kinds` says what is served, `store` holds it; `http` answers requests by `reading`, `watching` and `writing` (which uses
`defaults`, `validation`, `patching`, `apply`); `faults` spoils answers on demand; `controllers` do what the cluster's own
would.
"""

from __future__ import annotations

from tests.kube.server import FakeApiServer

__all__ = ["FakeApiServer"]
