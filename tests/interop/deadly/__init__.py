# SPDX-License-Identifier: Apache-2.0
"""A gateway whose workers die of certain requests: `python -m tests.interop.deadly` instead of `python -m acmgproxy`.

A real parser does not crash on demand, so the workers' is replaced by one that looks for the field `x-deadly` and does what it
says. Everything else, processes and signals included, is as it is.
"""
