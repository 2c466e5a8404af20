# SPDX-License-Identifier: Apache-2.0
"""Machine: what a watch does next, given everything that can happen to it. Pure: no input or output, no clock, no chance.

Theory. An API server offers a consistent snapshot of a kind, with a *version*, and every change after a version for as long as
it remembers it (about five minutes). Whoever takes a snapshot, follows its changes, and takes a new one whenever the thread is
lost, has in the end what the server has. So there are three phases:

- STREAMING: the snapshot comes as a stream of ADDED events with a marked bookmark behind it (WatchList), and the same stream goes
  on with the changes. Preferred: the server need not build the whole answer in memory.
- LISTING: the snapshot comes in pages. For servers that refuse the stream (remembered as long as the process lives) and for one
  time after a stream that broke off or fell silent halfway.
- WATCHING: changes from the last version that was seen, be it of an event or of a bookmark.

A snapshot is always asked for without a version, which means "the latest there is, by a majority of the store". A cached one
("0") may be older than what was seen before, one "not older than" a version never comes from a server that was restored from a
backup; and with "0" many servers give a whole list at once however small a page was asked for.

Until a new snapshot is complete the old objects stay as they are, whatever happens to the server.

When is the thread lost? When the server says so (410, or that a version is from its future); when an event or a bookmark has a
smaller version than one before, and when a stream that was answered stays without a single byte although bookmarks are due each
minute: both are how a restored backup looks from here. Not when a connection breaks, is refused or throttled: then the same
version is asked for again.

How often? Every way back to the server that is not a success leads through the backoff, with two exceptions: a stream that lived
for a minute or more is renewed at once, and a server that is back after failures and has forgotten the version is asked for the
snapshot soon, since the wait for its return was long enough. No sequence of answers makes a hot loop, `MOVES` shows it:
`Wait.NONE` stands only where something was achieved, or was ruled out for good, and `Wait.IF_NEWS` is short once after a failure,
which has waited.

A kind that is defined by users may not exist. It is *absent* once the server has said 404 for each of its versions, twice with a
pause if it was there before (a server that is just starting may not have found its definitions yet). An absent kind counts as
known and empty and is looked for now and then.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from discovery.kube.backoff import Backoff, WatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOVES", "Effect", "Features", "Happening", "Machine", "Move", "Phase", "Step", "Wait", "is_older"]


class Phase(Enum):
    """Where a watch is."""

    STREAMING = auto()
    LISTING = auto()
    WATCHING = auto()


class Happening(Enum):
    """What can happen to it."""

    PAGE = auto()
    """A page of a list, with more behind it."""
    LISTED = auto()
    """The last page of a list."""
    EVENT = auto()
    BOOKMARK = auto()
    SYNCED = auto()
    """The bookmark behind the last of a stream's initial events."""
    BACKWARDS = auto()
    """An event or a bookmark whose version is older than one before."""
    CUT = auto()
    """A stream ended: as agreed, or in the middle of a line."""
    SILENT = auto()
    """No byte for too long on a stream on which there had been some."""
    MUTE = auto()
    """No byte at all on a stream that had been answered."""
    EXPIRED = auto()
    """The server no longer, or not yet, knows the version, or the token of a list: 410, or "too large"."""
    REJECTED = auto()
    """The server does not take such a request: 400, 422 and the like."""
    GARBLED = auto()
    """What came is nothing the API sends."""
    NOT_FOUND = auto()
    """There is no such kind: 404."""
    FAILED = auto()
    """Everything else: refused, 401, 403, 429, 5xx, no answer in time."""


class Wait(Enum):
    """How long before the next request."""

    NONE = auto()
    BACKOFF = auto()
    IF_SHORT = auto()
    """As BACKOFF, but not at all after a stream that lived for long."""
    IF_NEWS = auto()
    """As BACKOFF, but only for a moment if the request before it failed and waited."""
    ABSENT = auto()
    """As seldom as one looks for a kind that is not there, if that is sure."""


class Effect(Enum):
    """What becomes of the objects."""

    NONE = auto()
    SWAP = auto()
    """The snapshot is complete: it takes the place of the objects before."""
    EMPTY = auto()
    """There are none."""


class Move(NamedTuple):
    """A transition.

    Args:
        to: next phase; None for a new snapshot in the best way.
        wait: before the next request; None to go on reading.
        effect: on the objects.
        is_refusal: whether it shows that the server has no WatchList.
    """

    to: Phase | None
    wait: Wait | None
    effect: Effect = Effect.NONE
    is_refusal: bool = False


_S, _L, _W = Phase.STREAMING, Phase.LISTING, Phase.WATCHING
_H = Happening

MOVES: dict[tuple[Phase, Happening], Move] = {
    # A snapshot as a stream.
    (_S, _H.EVENT): Move(_S, None),
    (_S, _H.SYNCED): Move(_W, None, Effect.SWAP),
    (_S, _H.BOOKMARK): Move(_L, Wait.NONE, is_refusal=True),  # a server that took it for a plain watch
    (_S, _H.REJECTED): Move(_L, Wait.NONE, is_refusal=True),
    (_S, _H.CUT): Move(_L, Wait.BACKOFF),
    (_S, _H.SILENT): Move(_L, Wait.BACKOFF),
    (_S, _H.MUTE): Move(_L, Wait.BACKOFF),
    (_S, _H.EXPIRED): Move(_L, Wait.BACKOFF),
    (_S, _H.GARBLED): Move(_L, Wait.BACKOFF),
    (_S, _H.NOT_FOUND): Move(None, Wait.ABSENT),
    (_S, _H.FAILED): Move(None, Wait.BACKOFF),
    # A snapshot in pages. After a failure the same page is asked for again: a long list must get through in the end.
    (_L, _H.PAGE): Move(_L, Wait.NONE),
    (_L, _H.LISTED): Move(_W, Wait.NONE, Effect.SWAP),
    (_L, _H.EXPIRED): Move(_L, Wait.BACKOFF),
    (_L, _H.REJECTED): Move(None, Wait.BACKOFF),
    (_L, _H.GARBLED): Move(None, Wait.BACKOFF),
    (_L, _H.NOT_FOUND): Move(None, Wait.ABSENT),
    (_L, _H.FAILED): Move(_L, Wait.BACKOFF),
    # Changes.
    (_W, _H.EVENT): Move(_W, None),
    (_W, _H.BOOKMARK): Move(_W, None),
    (_W, _H.SYNCED): Move(_W, None),
    (_W, _H.BACKWARDS): Move(None, Wait.BACKOFF),
    (_W, _H.CUT): Move(_W, Wait.IF_SHORT),
    (_W, _H.SILENT): Move(_W, Wait.BACKOFF),
    (_W, _H.MUTE): Move(None, Wait.BACKOFF),
    (_W, _H.EXPIRED): Move(None, Wait.IF_NEWS),
    (_W, _H.REJECTED): Move(None, Wait.BACKOFF),
    (_W, _H.GARBLED): Move(None, Wait.BACKOFF),  # the same version would bring the same
    (_W, _H.NOT_FOUND): Move(None, Wait.BACKOFF),
    (_W, _H.FAILED): Move(_W, Wait.BACKOFF),
}
"""Every transition. What is missing cannot happen: pages come only while listing, a snapshot has no version to fall behind."""


class Step(NamedTuple):
    """A request to make.

    Args:
        phase: what it is for.
        wait_s: how long to wait before it.
        version: to watch from.
        token: of the page to continue with, "" for the first.
        limit: objects on a page.
        is_first: whether a new snapshot begins with it.
        served: which of the kind's versions to ask for, counted from the best.
    """

    phase: Phase
    wait_s: float
    version: str
    token: str
    limit: int
    is_first: bool
    served: int


class Features:
    """What a server can do, found out by asking; shared by all watches of a process."""

    __slots__ = ("watch_list",)

    def __init__(self) -> None:
        self.watch_list = True


class Machine:
    """The state of one watch.

    Args:
        limits: the figures.
        features: of the server.
        versions: how many versions of the kind there are to try.
        may_be_absent: whether the server may not know the kind.
        draw: a random number in [0, 1).
    """

    def __init__(
        self,
        limits: WatchLimits,
        features: Features,
        *,
        versions: int = 1,
        may_be_absent: bool = False,
        draw: Callable[[], float],
    ) -> None:
        self._limits = limits
        self._features = features
        self._versions = versions
        self._may_be_absent = may_be_absent
        self._backoff = Backoff(limits, draw)
        self._token = ""
        self._limit = limits.page
        self._wait_s = 0.0
        self._served = 0
        self._is_doubted = False
        self._has_failed = False
        self.version = ""
        self.is_synced = False
        self.is_absent = False
        self.phase = self._best()

    def __repr__(self) -> str:
        state = "absent" if self.is_absent else "synced" if self.is_synced else "not synced"
        return f"<Machine {self.phase.name} {state} version={self.version} wait={self._wait_s:.1f}s>"

    def step(self) -> Step:
        """Return the request to make now."""
        if self.phase is Phase.STREAMING and not self._features.watch_list:
            self.phase = Phase.LISTING  # another watch has found out meanwhile
        is_first = self.phase is not Phase.WATCHING and not self._token
        wait_s, self._wait_s = self._wait_s, 0.0
        return Step(self.phase, wait_s, self.version, self._token, self._limit, is_first, self._served)

    def take(
        self,
        what: Happening,
        now: float,
        *,
        version: str = "",
        token: str = "",
        asked_s: float | None = None,
        lived_s: float = 0.0,
    ) -> Move:
        """Take note of something and return the transition it made; with `wait` None the stream is to be read on.

        Args:
            what: happened.
            now: monotonic seconds.
            version: of an event, a bookmark or a list.
            token: for the next page.
            asked_s: how long the server asks to wait.
            lived_s: how long the stream lasted.
        """
        if self.phase is Phase.WATCHING and is_older(version, self.version):
            what = Happening.BACKWARDS
        elif what is Happening.NOT_FOUND and not self._may_be_absent:
            what = Happening.FAILED
        move = MOVES[self.phase, what]
        if move.effect is Effect.SWAP:
            self.is_synced, self.is_absent, self._is_doubted = True, False, False
            self._limit = self._limits.page
        elif self.phase is Phase.LISTING and what is Happening.EXPIRED:
            self._limit *= 10  # too many pages for the server's memory
        if move.is_refusal:
            self._features.watch_list = False
        if version and (move.effect is Effect.SWAP or (self.phase is Phase.WATCHING and move.wait is None)):
            self.version = version
        stays_on_page = self.phase is Phase.LISTING and what is Happening.FAILED
        self._token = self._token if stays_on_page else token
        self.phase = self._best() if move.to is None else move.to
        if move.wait is Wait.ABSENT:
            return self._not_found(move, now)
        if move.wait is not None:
            self._wait_s = self._waiting_s(move.wait, now, asked_s, lived_s)
        self._has_failed = what is Happening.FAILED
        return move

    def _waiting_s(self, wait: Wait, now: float, asked_s: float | None, lived_s: float) -> float:
        if wait is Wait.NONE or (wait is Wait.IF_SHORT and lived_s >= self._limits.lived_s):
            return 0.0
        if wait is Wait.IF_NEWS and self._has_failed and asked_s is None:
            return self._backoff.soon_s()
        return self._backoff.wait_s(now, asked_s)

    def _not_found(self, move: Move, now: float) -> Move:
        """Try the next version of the kind, then all again if it was there before, then believe that it is absent."""
        was_there = self.is_synced and not self.is_absent
        self._served = (self._served + 1) % self._versions
        if self._served:
            self._wait_s = self._backoff.wait_s(now) if was_there else 0.0
            return move
        if was_there and not self._is_doubted:
            self._is_doubted = True
            self._wait_s = self._backoff.wait_s(now)
            return move
        self.is_synced, self.is_absent, self._is_doubted = True, True, False
        self._wait_s = self._backoff.stretched_s(self._limits.absent_s)
        return move._replace(effect=Effect.EMPTY)

    def _best(self) -> Phase:
        return Phase.STREAMING if self._features.watch_list else Phase.LISTING


def is_older(version: str, than: str) -> bool:
    """Compare versions. They count up for every kind that API servers keep themselves; others are not compared."""
    if not (version.isdecimal() and than.isdecimal()):
        return False
    return int(version) < int(than)
