# SPDX-License-Identifier: Apache-2.0
"""Explanations: what happens to one request, and why.

    question (caller, listener) ─▶ excerpt of the specs ─▶ table ─▶ route
                                                            └─▶ candidates, rules, match entries: why each was taken or not

The answer is the table's own: an excerpt of the configuration is compiled as a worker does it, and asked. The reasons are its
compiled conditions, asked one by one. There is no second matcher that could say something else.
"""

from __future__ import annotations

from routing.explain.explaining import explain
from routing.explain.model import Explanation
from routing.explain.near import near_hosts
from routing.explain.questions import Arrival, Asker, QuestionError, find_caller, find_listener, split_service

__all__ = [
    "Arrival",
    "Asker",
    "Explanation",
    "QuestionError",
    "explain",
    "find_caller",
    "find_listener",
    "near_hosts",
    "split_service",
]
