# SPDX-License-Identifier: Apache-2.0
"""The full suite: one module per table of results, and what they share (`ground`, `table`, `plan`)."""
