# SPDX-License-Identifier: Apache-2.0
"""What a cluster's own controllers do, as far as clients of the API server see it.

Each works on the store directly and level-triggered, as the real ones do: a change marks a key, and what is done about the key
depends on the whole store alone.
"""

from __future__ import annotations

from tests.kube.controllers.endpoint_slices import EndpointSlices
from tests.kube.controllers.garbage import Garbage, empty_namespace
from tests.kube.controllers.kubelet import Kubelet
from tests.kube.controllers.workloads import Workloads

__all__ = ["EndpointSlices", "Garbage", "Kubelet", "Workloads", "empty_namespace"]
