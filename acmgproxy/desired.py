# SPDX-License-Identifier: Apache-2.0
"""What every worker shall have: one configuration and the sockets to accept from.

Workers may be at different versions, so each is sent the difference from its own; equal differences are computed and encoded once
for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from acmgproxy.channel import encode_frame
from acmgproxy.messages import Apply
from routing.diff import diff
from routing.specs import Specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from acmgproxy.sockets import Bind, SocketGroup
    from routing.specs import SpecsDiff

__all__ = ["NOTHING", "Desired"]

NOTHING = Specs()
"""What a worker has when it starts; its version is 0."""


class Desired:
    """What every worker shall have, and the difference to it from what workers have, encoded once for all of them.

    Args:
        specs: the configuration.
        version: its number.
        binds: what to accept from.
        known: a difference that is known already, after the version it starts from.
    """

    def __init__(
        self,
        specs: Specs = NOTHING,
        version: int = 0,
        binds: Mapping[Bind, SocketGroup] | None = None,
        *,
        known: tuple[int, SpecsDiff] | None = None,
    ) -> None:
        self.specs = specs
        self.version = version
        self.binds: Mapping[Bind, SocketGroup] = binds or {}
        self._frames: dict[int, bytes | None] = {}
        if known is not None:
            base, change = known
            self._frames[base] = encode_frame(Apply(base=base, diff=change))

    def __repr__(self) -> str:
        return f"<Desired version={self.version} binds={len(self.binds)}>"

    def frame_from(self, base: Specs, base_version: int) -> bytes | None:
        """Return the order that turns `base` into this, or None when they are equal."""
        if base_version not in self._frames:
            change = diff(base, self.specs, self.version)
            self._frames[base_version] = encode_frame(Apply(base=base_version, diff=change)) if change is not None else None
        return self._frames[base_version]
