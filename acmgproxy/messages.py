# SPDX-License-Identifier: Apache-2.0
"""What the supervisor and a worker say to each other.

The supervisor orders, the worker reports; neither waits for an answer. Orders are carried out one after the other in the order
sent, which is what makes "first the routes, then the listener that needs them" hold without further words.

    supervisor            worker
    Start + fd ->         Started, when it can take orders; Heartbeat each second from then on
    Apply ->              Applied | Rejected
    AddListener + fd ->   ListenerAdded | ListenerFailed
    RemoveListener ->     ListenerRemoved, when its accept queue is served
    AskStats ->           SeriesReport ..., StatsReply
    AskEndpoints ->       EndpointsReply
    Drain ->              SeriesReport ..., StatsReply, then it exits
    SetQuarantine ->
    SetLogging ->         LoggingSet
                          ReplacementWanted, at SIGTERM
"""

from __future__ import annotations

import msgspec

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.endpoint_state import EndpointState
from acmgproxy.log_levels import Level
from acmgproxy.settings import ProxySettings
from acmgproxy.stats import SeriesValue, WorkerStats
from routing.specs import SpecsDiff

__all__ = [
    "AddListener",
    "Applied",
    "Apply",
    "AskEndpoints",
    "AskStats",
    "Drain",
    "EndpointsReply",
    "Heartbeat",
    "ListenerAdded",
    "ListenerFailed",
    "ListenerRemoved",
    "LoggingSet",
    "Order",
    "Rejected",
    "RemoveListener",
    "ReplacementWanted",
    "Report",
    "SeriesReport",
    "SetLogging",
    "SetQuarantine",
    "Start",
    "Started",
    "StatsReply",
    "order_decoder",
    "report_decoder",
]


class Start(msgspec.Struct, tag=True):
    """The first order: who the worker is and how it shall run. With it comes its black box (see acmgproxy.black_box)."""

    worker_id: int
    settings: ProxySettings


class Apply(msgspec.Struct, tag=True):
    """Change the configuration. `base` is the version the difference is from, 0 being nothing; it is refused on any other."""

    base: int
    diff: SpecsDiff


class AddListener(msgspec.Struct, tag=True):
    """Accept from the socket that comes with this message.

    `member` is the worker whose socket it is, if that is another one, which cannot accept just now.
    """

    name: str
    address: str
    port: int
    member: int | None = None


class RemoveListener(msgspec.Struct, tag=True):
    """Close the socket; if nobody accepts from it any more (`is_last`), serve what waits in its accept queue first."""

    name: str
    address: str
    port: int
    is_last: bool
    member: int | None = None


class AskStats(msgspec.Struct, tag=True):
    """Report all counters."""

    ask: int


class AskEndpoints(msgspec.Struct, tag=True):
    """Describe the members of these clusters; without any, those endpoints of all clusters that are ejected."""

    ask: int
    clusters: tuple[str, ...] = ()


class Drain(msgspec.Struct, tag=True):
    """Finish what is in flight and exit.

    For another `accept_s` seconds new connections are taken and idle ones kept open. If it `hands_over`, another process accepts
    from the same sockets already: it takes no new connection, but gives idle ones the whole time of a drain to ask once more.
    """

    accept_s: float = 0.0
    hands_over: bool = False


class SetQuarantine(msgspec.Struct, tag=True):
    """Serve no request whose head has one of these fingerprints (see acmgproxy.quarantine)."""

    heads: list[bytes]


class SetLogging(msgspec.Struct, tag=True):
    """Log requests so from now on, and of the worker's own lines those of this level and above."""

    ask: int
    access_log: AccessLogOptions
    level: Level


Order = Start | Apply | AddListener | RemoveListener | AskStats | AskEndpoints | Drain | SetQuarantine | SetLogging


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
    member: int | None = None


class ListenerFailed(msgspec.Struct, tag=True):
    """The worker could not take the socket over."""

    name: str
    address: str
    port: int
    reason: str
    member: int | None = None


class ListenerRemoved(msgspec.Struct, tag=True):
    """The worker no longer has the socket."""

    name: str
    address: str
    port: int
    member: int | None = None


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


class ReplacementWanted(msgspec.Struct, tag=True):
    """Somebody told the worker to go (SIGTERM); it stays until another has taken its place."""


class LoggingSet(msgspec.Struct, tag=True):
    """The order `ask` is carried out; `reason` says why requests are still logged as before, "" if they are not."""

    ask: int
    reason: str


class EndpointsReply(msgspec.Struct, tag=True):
    """How endpoints are doing in this worker. `ask` is the question's."""

    ask: int
    endpoints: list[EndpointState]


class SeriesReport(msgspec.Struct, tag=True):
    """Request series that have changed, each with all it has counted since the worker started: a part of the next StatsReply."""

    series: list[SeriesValue]


class StatsReply(msgspec.Struct, tag=True):
    """All counters since the worker started; series went before. `ask` is the question's, 0 when unasked."""

    ask: int
    stats: WorkerStats


Report = (
    Started | Applied | Rejected | ListenerAdded | ListenerFailed | ListenerRemoved | Heartbeat | StatsReply | EndpointsReply
    | ReplacementWanted | LoggingSet | SeriesReport
)  # fmt: skip


def order_decoder() -> msgspec.msgpack.Decoder[Order]:
    """Make the decoder a worker needs."""
    return msgspec.msgpack.Decoder(Order)


def report_decoder() -> msgspec.msgpack.Decoder[Report]:
    """Make the decoder the supervisor needs."""
    return msgspec.msgpack.Decoder(Report)
