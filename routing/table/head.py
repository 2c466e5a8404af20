# SPDX-License-Identifier: Apache-2.0
"""What the table sees of a request: its head and its caller.

Everything is bytes, as it came: no decoding, no normalisation. Header values are fetched by name, so a head that indexes its
fields lazily pays only for the rules that look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from routing.specs import IdentitySpec
    from routing.table.route import Route

__all__ = ["Caller", "Find", "RequestView", "Test"]


class RequestView(Protocol):
    """The head of a request.

    Attributes:
        path: the target without its query. query: without its "?", b"" for none. authority: the Host value as sent. host: the
        same in lower case, without port and trailing dot. port: its port, 0 for none.
    """

    @property
    def method(self) -> bytes: ...  # noqa: D102 (described above)
    @property
    def path(self) -> bytes: ...  # noqa: D102
    @property
    def query(self) -> bytes: ...  # noqa: D102
    @property
    def authority(self) -> bytes: ...  # noqa: D102
    @property
    def host(self) -> bytes: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102
    @property
    def scheme(self) -> bytes: ...  # noqa: D102

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field by its lower-case name, several values joined by a comma; None when missing."""


class Caller:
    """Who sends requests over a connection: one object per identity, compared by identity, so it can key views cheaply."""

    __slots__ = ("identity", "labels", "namespace", "spec")

    def __init__(self, identity: str, spec: IdentitySpec) -> None:
        self.identity = identity
        self.spec = spec
        self.namespace = spec.namespace
        self.labels = spec.labels

    def __repr__(self) -> str:
        return f"Caller({self.identity!r})"


Test: TypeAlias = Callable[[RequestView], bool]
"""A condition on a head."""

Find: TypeAlias = "Callable[[RequestView, Caller | None], Route | None]"
"""Chooses the route of a request, None when no rule matches. Most ignore the caller."""
