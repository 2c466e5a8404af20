# SPDX-License-Identifier: Apache-2.0
"""The admin resource /logging: GET says how requests are logged and from which level on processes write lines, PUT changes it.

    PUT /logging
    {"access_log": {"sink": "-", "format": "json", "min_status": 500, "slower_than_s": 1.5, "sampled": 0.01}, "level": "debug"}

What is left out stays as it is. Whoever may do this can have the gateway append to any file that it may write, so the resource is
on the admin server alone, and that listens on the loopback address: only who is on the machine, or may forward ports of the pod,
gets there. A page in somebody's browser is kept out by the two things it cannot do: name the server by an address or `localhost`
when its own name leads here (DNS rebinding), and send JSON to another origin unasked.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import msgspec
import orjson
from aiohttp import web

from acmgproxy.access_log import AccessLogOptions
from acmgproxy.log_levels import Level

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["PAGE", "LoggingChangeError", "LoggingResource", "LoggingState", "LoggingView", "read_change"]

PAGE = "/logging"

_JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


class LoggingState(msgspec.Struct, frozen=True, kw_only=True):
    """How logs are. `failures` are workers that still log requests as before, and why."""

    access_log: AccessLogOptions
    level: Level
    failures: dict[str, str] = {}


class LoggingView(Protocol):
    """What the resource needs of a gateway."""

    def logging(self) -> LoggingState:
        """Return how logs are."""

    async def set_logging(self, access_log: AccessLogOptions, level: Level) -> LoggingState:
        """Change it, and return how logs are once the workers have been told."""


class LoggingChangeError(ValueError):
    """A change that is none. `field` is where, "" for the whole."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class _AccessLogChange(msgspec.Struct, forbid_unknown_fields=True):
    sink: str | msgspec.UnsetType = msgspec.UNSET
    format: Literal["text", "json"] | msgspec.UnsetType = msgspec.UNSET
    min_status: int | msgspec.UnsetType = msgspec.UNSET
    slower_than_s: float | msgspec.UnsetType = msgspec.UNSET
    sampled: float | msgspec.UnsetType = msgspec.UNSET


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    access_log: _AccessLogChange | msgspec.UnsetType = msgspec.UNSET
    level: Level | msgspec.UnsetType = msgspec.UNSET


_change = msgspec.json.Decoder(_Change)


def read_change(body: bytes, present: LoggingState) -> tuple[AccessLogOptions, Level]:
    """Return what a change of the present state leads to.

    Raises:
        LoggingChangeError: it is none; says which field and why.
    """
    try:
        change = _change.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).rpartition(" - at `$")
        field = path.removesuffix("`").removeprefix(".")
        raise LoggingChangeError(field if reason else "", _sentence(reason or str(error), field)) from None
    except msgspec.DecodeError as error:
        raise LoggingChangeError("", f"expected JSON: {error}") from None
    options = present.access_log
    if change.access_log is not msgspec.UNSET:
        said = msgspec.structs.asdict(change.access_log)
        options = msgspec.structs.replace(options, **{name: one for name, one in said.items() if one is not msgspec.UNSET})
    _check(options)
    return options, present.level if change.level is msgspec.UNSET else change.level


def _sentence(reason: str, field: str) -> str:
    """Make msgspec's reason one of ours, with the values that there are."""
    text = reason[:1].lower() + reason[1:].replace("`", "")
    words = {"level": get_args(Level), "access_log.format": ("text", "json")}.get(field)
    return f"{text}; expected one of {', '.join(words)}" if words and text.startswith("invalid") else text


def _check(options: AccessLogOptions) -> None:
    if options.sink not in {"off", "-"} and not options.sink.startswith("/"):
        raise LoggingChangeError("access_log.sink", f"expected off, -, or a path that begins with /, got {options.sink!r}")
    if "\0" in options.sink:
        raise LoggingChangeError("access_log.sink", "a path has no NUL")
    if not 0 <= options.min_status <= 999:
        raise LoggingChangeError("access_log.min_status", "expected a status, or 0 for no such condition")
    if not 0.0 <= options.slower_than_s < float("inf"):
        raise LoggingChangeError("access_log.slower_than_s", "expected seconds, or 0 for no such condition")
    if not (options.sampled == -1.0 or 0.0 <= options.sampled <= 1.0):
        raise LoggingChangeError("access_log.sampled", "expected a fraction between 0 and 1, or -1 for none of its own")


class LoggingResource:
    """Answers for a LoggingView.

    Args:
        view: what to show and change.
    """

    def __init__(self, view: LoggingView) -> None:
        self._view = view

    def __repr__(self) -> str:
        return f"<LoggingResource of {self._view!r}>"

    @property
    def handlers(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        """What answers to GET, by page."""
        return {PAGE: self._get}

    async def put(self, request: web.Request) -> web.Response:
        """Change how logs are."""
        if not _is_addressed(request):
            return _refusal(403, "", f"Host {request.host} is neither an address nor localhost")
        if request.content_type != "application/json":
            return _refusal(415, "", "expected Content-Type: application/json")
        try:
            options, level = read_change(await request.read(), self._view.logging())
        except LoggingChangeError as error:
            return _refusal(400, error.field, error.reason)
        state = await self._view.set_logging(options, level)
        return _answer(state, 500 if state.failures else 200)

    async def _get(self, _: web.Request) -> web.Response:
        return _answer(self._view.logging(), 200)


def _is_addressed(request: web.Request) -> bool:
    name = (request.url.host or "").removesuffix(".")
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _answer(state: LoggingState, status: int) -> web.Response:
    body = orjson.dumps(msgspec.to_builtins(state), option=_JSON_OPTIONS)
    return web.Response(status=status, body=body, content_type="application/json")


def _refusal(status: int, field: str, reason: str) -> web.Response:
    body = orjson.dumps({"error": {"field": field, "reason": reason}}, option=_JSON_OPTIONS)
    return web.Response(status=status, body=body, content_type="application/json")
