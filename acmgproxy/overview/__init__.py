# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a gateway at a glance: traffic by Service over the last minutes, its splits, endpoints, and its health.

It lives in the supervisor and reads what is there anyway: counters that the workers report every few seconds, the configuration,
how the workers are. Every figure is what Prometheus computes from the same counters between the same two moments.
"""

from __future__ import annotations
