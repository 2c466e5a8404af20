# SPDX-License-Identifier: Apache-2.0
"""What the supervisor and a worker say to each other.

The supervisor orders, the worker reports; neither waits for an answer. Orders are carried out one after the other in the order
sent, which is what makes "first the routes, then the listener that needs them" hold without further words.

    supervisor            worker
    Start ->              Started, when it can take orders; Heartbeat each second from then on
    Apply ->              Applied | Rejected
    AddListener + fd ->   ListenerAdded | ListenerFailed
    RemoveListener ->     ListenerRemoved, when its accept queue is served
    AskStats ->           StatsReply
    Drain ->              StatsReply, then it exits
"""

from __future__ import annotations

import msgspec

from acmgproxy.settings import ProxySettings
from acmgproxy.stats import WorkerStats
from routing.specs import SpecsDiff

__all__ = [
    "AddListener",
    "Applied",
    "Apply",
    "AskStats",
    "Drain",
    "Heartbeat",
    "ListenerAdded",
    "ListenerFailed",
    "ListenerRemoved",
    "Order",
    "Rejected",
    "RemoveListener",
    "Report",
    "Start",
    "Started",
    "StatsReply",
    "order_decoder",
    "report_decoder",
]


class Start(msgspec.Struct, tag=True):
    """The first order: who the worker is and how it shall run."""

    worker_id: int
    settings: ProxySettings


class Apply(msgspec.Struct, tag=True):
    """Change the configuration. `base` is the version the difference is from, 0 being nothing; it is refused on any other."""

    base: int
    diff: SpecsDiff


class AddListener(msgspec.Struct, tag=True):
    """Accept from the socket that comes with this message."""

    name: str
    address: str
    port: int


class RemoveListener(msgspec.Struct, tag=True):
    """Close the socket; if nobody accepts from it any more (`is_last`), serve what waits in its accept queue first."""

    name: str
    address: str
    port: int
    is_last: bool


class AskStats(msgspec.Struct, tag=True):
    """Report all counters."""

    ask: int


class Drain(msgspec.Struct, tag=True):
    """Finish what is in flight and exit. New connections are taken for another `accept_s` seconds."""

    accept_s: float = 0.0


Order = Start | Apply | AddListener | RemoveListener | AskStats | Drain


class Started(msgspec.Struct, tag=True):
    """The worker is up, with no configuration yet."""


class Applied(msgspec.Struct, tag=True):
    """Requests see this version now."""

    version: int


class Rejected(msgspec.Struct, tag=True):
    """This version could not be compiled or does not follow from the worker's own; requests see the one before."""

    version: int
    reason: str


class ListenerAdded(msgspec.Struct, tag=True):
    """The worker accepts at this address."""

    name: str
    address: str
    port: int


class ListenerFailed(msgspec.Struct, tag=True):
    """The worker could not take the socket over."""

    name: str
    address: str
    port: int
    reason: str


class ListenerRemoved(msgspec.Struct, tag=True):
    """The worker no longer has the socket."""

    name: str
    address: str
    port: int


class Heartbeat(msgspec.Struct, tag=True):
    """A sign of life with small health numbers.

    Args:
        loop_lag_s: how late the event loop was at worst, lately.
        cpu_s: user and system time of the process.
        rss_bytes: resident memory.
        open_files: open descriptors, 0 if unknown.
    """

    loop_lag_s: float
    cpu_s: float
    rss_bytes: int
    open_files: int


class StatsReply(msgspec.Struct, tag=True):
    """All counters since the worker started. `ask` is the question's, 0 when unasked."""

    ask: int
    stats: WorkerStats


Report = Started | Applied | Rejected | ListenerAdded | ListenerFailed | ListenerRemoved | Heartbeat | StatsReply


def order_decoder() -> msgspec.msgpack.Decoder[Order]:
    """Make the decoder a worker needs."""
    return msgspec.msgpack.Decoder(Order)


def report_decoder() -> msgspec.msgpack.Decoder[Report]:
    """Make the decoder the supervisor needs."""
    return msgspec.msgpack.Decoder(Report)
