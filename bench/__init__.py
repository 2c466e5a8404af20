# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what a request through the gateway costs, beside the proxies it replaces.

`python -m bench.quick` starts real proxies on loopback and loads them in turn; `bench/micro` holds pytest-benchmark tests of
single functions. A number is worth something only beside other numbers of the same run on the same machine, so every run
measures all peers, interleaved, and reports ratios.
"""
