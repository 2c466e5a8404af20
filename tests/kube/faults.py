# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with an API server, on demand.

Planned faults wait for the next requests they match; the other functions do their harm at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.kube.errors import REASONS, ApiStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kube.requests import Request
    from tests.kube.server import FakeApiServer
    from tests.kube.store import Backup

__all__ = ["Fault", "Faults"]


@dataclass(slots=True)
class Fault:
    """A fault that waits for its requests; `left` counts those it still takes, None has no end."""

    kind: Literal["status", "hang", "reset", "half", "empty"]
    left: int | None
    match: Callable[[Request], bool] | None
    status: ApiStatus | None = None


class Faults:
    """The faults of one server.

    Attributes:
        gone_as_status: a watch from a version that is forgotten is answered 410 instead of by an ERROR event.
        end_watches_at_once: each watch ends (without a line of its own) as soon as it is answered.
    """

    def __init__(self, api: FakeApiServer) -> None:
        self.gone_as_status = False
        self.end_watches_at_once = False
        self._api = api
        self._planned: list[Fault] = []

    def __repr__(self) -> str:
        return f"<Faults {len(self._planned)} planned>"

    def answer(
        self,
        status: int,
        *,
        count: int | None = 1,
        match: Callable[[Request], bool] | None = None,
        message: str = "",
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> Fault:
        """Answer the next requests with a status (401, 403, 409, 410, 429, 500 ...)."""
        refusal = ApiStatus(status, message or REASONS.get(status, "fault"), reason=reason, retry_after_s=retry_after_s)
        return self._plan(Fault("status", count, match, refusal))

    def hang(self, *, count: int | None = 1, match: Callable[[Request], bool] | None = None) -> Fault:
        """Never answer the next requests; their connections stay open."""
        return self._plan(Fault("hang", count, match))

    def reset(self, *, count: int | None = 1, match: Callable[[Request], bool] | None = None) -> Fault:
        """Reset the connections of the next requests instead of answering."""
        return self._plan(Fault("reset", count, match))

    def half(self, *, count: int | None = 1, match: Callable[[Request], bool] | None = None) -> Fault:
        """Answer the next requests by half, then reset: half the body, or of a watch's next line."""
        return self._plan(Fault("half", count, match))

    def empty(self, *, count: int | None = 1, match: Callable[[Request], bool] | None = None) -> Fault:
        """Answer the next watches 200 and end them at once."""
        return self._plan(Fault("empty", count, match))

    def cancel(self, fault: Fault) -> None:
        """Give up a planned fault; one that is used up already is no error."""
        self._planned = [other for other in self._planned if other is not fault]

    def clear(self) -> None:
        """Give up all planned faults and let frozen watches and hanging requests go."""
        self._planned.clear()
        self.gone_as_status = self.end_watches_at_once = False
        self.thaw_watches()

    def take(self, request: Request) -> Fault | None:
        """Return the fault that a request meets."""
        for fault in self._planned:
            if fault.match is None or fault.match(request):
                if fault.left is not None:
                    fault.left -= 1
                    if not fault.left:
                        self.cancel(fault)
                return fault
        return None

    def cut_watches(self, kind: str = "", *, abort: bool = False) -> int:
        """End the open watches, of one kind if it is named, in order or by a reset; return how many there were."""
        watches = self._api.watches(kind)
        for watch in watches:
            watch.end(abort=abort)
        return len(watches)

    def freeze_watches(self, kind: str = "") -> int:
        """Let the open watches fall silent without an end, as a lost connection does; return how many there were."""
        watches = self._api.watches(kind)
        for watch in watches:
            watch.frozen = True
        return len(watches)

    def thaw_watches(self) -> None:
        """Let frozen watches go on."""
        for watch in self._api.watches():
            watch.thaw()

    def halve_next_line(self, kind: str = "") -> int:
        """Send the next line of the open watches by half and reset them; return how many there are."""
        watches = self._api.watches(kind)
        for watch in watches:
            watch.half_line = True
        return len(watches)

    def expire_watches(self, kind: str = "") -> int:
        """End the open watches with an ERROR event of 410; return how many there were."""
        watches = self._api.watches(kind)
        for watch in watches:
            watch.error(ApiStatus(410, "The resourceVersion for the provided watch is too old."))
        return len(watches)

    def send_line(self, line: bytes, kind: str = "") -> None:
        """Send a line as it is to the open watches, whatever it may be."""
        for watch in self._api.watches(kind):
            watch.send(line)

    def replay(self, kind: str, namespace: str, name: str, type_: str = "ADDED") -> None:
        """Send an object once more to the open watches, as a duplicate or an event out of order."""
        entry = self._api.entry(kind, namespace, name)
        for watch in self._api.watches(kind):
            watch.event(type_, entry)

    def bookmark(self, kind: str = "") -> None:
        """Send a bookmark to the open watches that want them."""
        for watch in self._api.watches(kind):
            watch.bookmark(self._api.version)

    def compact(self) -> None:
        """Forget the history: older versions are answered 410. Something must have happened since for them to be older."""
        self._api.store.skip(1)
        self._api.store.compact()

    def backup(self) -> Backup:
        """Return a backup of everything."""
        return self._api.store.backup()

    def restore(self, backup: Backup) -> None:
        """Go back to a backup: versions go back, and open watches are reset as by the restart that this takes."""
        self._api.store.restore(backup)
        self.cut_watches(abort=True)

    def _plan(self, fault: Fault) -> Fault:
        self._planned.append(fault)
        return fault
