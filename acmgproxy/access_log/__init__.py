# SPDX-License-Identifier: Apache-2.0
"""The access log: one line per request, in Istio's default text format or as JSON with the same fields.

Lines are made on the event loop (`lines`: a few microseconds, only when the log is on) and written by a thread (`sink`), so that
a slow disk or a reader that has stopped cannot stall traffic. Which requests are logged is said by `AccessLogOptions`, and before
that by Telemetry objects (`routing.telemetry`) for the Services that they are about. Both may change at any time: a request is
judged by what holds at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from acmgproxy.access_log.lines import json_line, refused_json_line, refused_text_line, text_line
from acmgproxy.access_log.sink import Sink, check_sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from acmgproxy.h1.errors import HeadError
    from acmgproxy.io.downstream import Downstream
    from acmgproxy.io.exchange import Exchange
    from acmgproxy.replies import Failure
    from routing.specs import VirtualHostSpec
    from routing.telemetry import TelemetryRules

__all__ = ["AccessLog", "AccessLogOptions", "check_sink"]

_CLIENT_LEFT = 499
"""What status 0 counts as for `min_status`: the client left before the answer (nginx's name for it)."""


class AccessLogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, where and how.

    A request is logged when its status is at least `min_status`, or it took longer than `slower_than_s`, or it is among the
    `sampled`. With neither of the first two given, all are, or the `sampled` part of them.

    Args:
        sink: "off", "-" for standard output, or the path of a file to append to.
        format: "text" (Istio's default line) or "json".
        min_status: lowest status that is logged; 0 for no such condition. A client that left early counts as 499.
        slower_than_s: seconds from which on a request is logged; 0 for no such condition.
        sampled: fraction of the other requests that is logged, 0 to 1; negative: all without conditions, none with.
    """

    sink: str = "off"
    format: Literal["text", "json"] = "text"
    min_status: int = 0
    slower_than_s: float = 0.0
    sampled: float = -1.0

    @property
    def fraction(self) -> float:
        """The fraction of requests that meet no condition and are logged nevertheless."""
        if self.sampled < 0:
            return 0.0 if self.min_status or self.slower_than_s else 1.0
        return self.sampled


class AccessLog:
    """Chooses, formats and hands on lines.

    Args:
        options: what is logged and how; `options.sink` is not looked at.
        sink: where the lines go.
        random: draws from [0, 1) for sampling.
        rules: what Telemetry objects say; None for nothing.
        is_on: whether requests are logged that `rules` says nothing about.
    """

    def __init__(
        self,
        options: AccessLogOptions,
        sink: Sink,
        random: Callable[[], float],
        rules: TelemetryRules | None = None,
        *,
        is_on: bool = True,
    ) -> None:
        self._sink = sink
        self._rules = rules if rules else None
        self._is_on = is_on
        self._random = random
        self._is_json = options.format == "json"
        self._min_status = options.min_status or 1000
        self._slower_than_s = options.slower_than_s or float("inf")
        self._fraction = options.fraction
        self._logs_all = options.fraction >= 1.0 and is_on and self._rules is None

    def __repr__(self) -> str:
        return f"AccessLog({self._sink!r})"

    @classmethod
    def open(
        cls,
        options: AccessLogOptions,
        random: Callable[[], float],
        rules: TelemetryRules | None = None,
        before: AccessLog | None = None,
    ) -> AccessLog | None:
        """Open the log; None when it is off and no rule asks for it. Where the log is off and one does, it is standard output.

        Args:
            options: see the class, also for the next two.
            random: see there.
            rules: see there.
            before: the log so far; if it goes to the same place, it is the same sink.

        Raises:
            OSError: the file cannot be opened.
        """
        is_on = options.sink != "off"
        if not is_on and (rules is None or not rules.logs_any):
            return None
        name = options.sink if is_on else "-"
        sink = before.sink if before is not None and before.sink.name == name else Sink.open(name)
        return cls(options, sink, random, rules, is_on=is_on)

    @property
    def sink(self) -> Sink:
        """Where the lines go."""
        return self._sink

    @property
    def dropped(self) -> int:
        """Lines lost because the sink did not keep up."""
        return self._sink.dropped

    def write(self, exchange: Exchange, now: float) -> None:
        """Log a finished request, if it is one to be logged.

        Args:
            exchange: the request.
            now: monotonic seconds of its end.
        """
        if self._logs_all or self._wants(exchange.requested_host, exchange.status, now - exchange.started):
            self._sink.put(json_line(exchange, now) if self._is_json else text_line(exchange, now))

    def write_refused(self, downstream: Downstream, error: HeadError, failure: Failure) -> None:
        """Log a request whose head was not acceptable, if it is one to be logged."""
        if self._logs_all or self._wants(downstream.listener_host, error.status, 0.0):
            line = refused_json_line if self._is_json else refused_text_line
            self._sink.put(line(downstream, error, failure))

    def retire(self) -> None:
        """Have what waits written and stop, without waiting for it."""
        self._sink.retire()

    def close(self) -> None:
        """Write what waits and stop."""
        self._sink.close()

    def _wants(self, host: VirtualHostSpec | None, status: int, duration_s: float) -> bool:
        """Judge a request to a host."""
        rule = self._rules.find(host) if self._rules is not None else None
        if rule is not None and rule.logged is not None:
            return rule.logged and rule.passes(status, duration_s)
        return self._is_on and self._is_wanted(status, duration_s)

    def _is_wanted(self, status: int, duration_s: float) -> bool:
        if (status or _CLIENT_LEFT) >= self._min_status or duration_s >= self._slower_than_s:
            return True
        return self._random() < self._fraction
