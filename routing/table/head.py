# SPDX-License-Identifier: Apache-2.0
"""What the table sees of a request besides its head (routing.request): who sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.request import RequestView
    from routing.specs import IdentitySpec
    from routing.table.route import Route

__all__ = ["Caller", "Find", "Test"]


class Caller:
    """Who sends requests over a connection: one object per identity, compared by identity, so it can key views cheaply.

    `locality` is `region/zone/subzone`, "" when unknown.
    """

    __slots__ = ("identity", "labels", "locality", "namespace", "spec")

    def __init__(self, identity: str, spec: IdentitySpec) -> None:
        self.identity = identity
        self.spec = spec
        self.namespace = spec.namespace
        self.labels = spec.labels
        self.locality = spec.locality

    def __repr__(self) -> str:
        return f"Caller({self.identity!r})"


Test: TypeAlias = "Callable[[RequestView], bool]"
"""A condition on a head."""

Find: TypeAlias = "Callable[[RequestView, Caller | None], Route | None]"
"""Chooses the route of a request, None when no rule matches. Most ignore the caller."""
