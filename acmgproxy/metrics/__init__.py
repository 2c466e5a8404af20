# SPDX-License-Identifier: Apache-2.0
"""Metrics: the counters of all workers added up (`totals`) and shown to Prometheus (`collector`)."""
