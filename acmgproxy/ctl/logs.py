# SPDX-License-Identifier: Apache-2.0
"""`acmgctl log`: shows and changes how running gateways log requests, and from which level on their processes write lines.

Without options it only shows. What is changed holds until the gateway ends; what it is started with is changed by `install`.

A gateway's admin server listens on the loopback address of its pod, which is what keeps others from switching its logs, so the
API server reaches it only where somebody has given it another one. Elsewhere `kubectl port-forward` leads there, and the error
says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from acmgproxy.ctl.cluster import FAILED, NAMESPACE, NOT_DONE, OURS, CtlError, connected, list_all, run
from acmgproxy.ctl.terminal import complain, print_json, print_table
from acmgproxy.io.admin_logging import PAGE, LoggingState
from discovery.kube import PODS, ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from acmgproxy.ctl.cluster import Where

__all__ = ["LogOptions", "run_log"]

ADMIN_PORT = 15000
_TIMEOUT_S = 5.0
"""A gateway waits two seconds for its workers."""

_GATEWAYS = f"{OURS},app.kubernetes.io/component=gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What the command is told. None leaves a thing as it is.

    Args:
        where: which cluster, if no `gateways` are named.
        gateways: URLs of admin servers.
        access_log: sink of the access log.
        format: of its lines.
        min_status, slower_than_s, sample: which requests are logged.
        level: of the processes' own logs.
        as_json: print for programs.
    """

    where: Where
    gateways: tuple[str, ...] = ()
    access_log: str | None = None
    format: str | None = None
    min_status: int | None = None
    slower_than_s: float | None = None
    sample: float | None = None
    level: str | None = None
    as_json: bool = False

    def change(self) -> dict[str, Any]:
        """Return the body of the PUT, {} when nothing is to be changed."""
        access_log = {
            "sink": self.access_log,
            "format": self.format,
            "min_status": self.min_status,
            "slower_than_s": self.slower_than_s,
            "sampled": self.sample,
        }
        access_log = {name: value for name, value in access_log.items() if value is not None}
        change: dict[str, Any] = {"access_log": access_log} if access_log else {}
        return change | ({"level": self.level} if self.level is not None else {})


class _GatewayError(Exception):
    """A gateway gives no state; the text says why, and what to do."""


def run_log(options: LogOptions) -> int:
    """Show or change the logs of gateways; return the exit code, 1 if one of them did not follow."""

    async def command() -> int:
        if options.gateways:
            asked = {url: _ask_url(url, options.change()) for url in options.gateways}
            return _show(await _all(asked), as_json=options.as_json)
        async with connected(options.where) as client:
            pods = await list_all(client, PODS.path(NAMESPACE), labelSelector=_GATEWAYS)
            if not pods:
                text = f"there is no gateway in namespace {NAMESPACE}: install one, or name another with --gateway URL"
                raise CtlError(text, code=NOT_DONE)
            names = [pod["metadata"]["name"] for pod in pods]
            asked = {name: _ask_pod(client.request, name, options.change()) for name in names}
            return _show(await _all(asked), as_json=options.as_json)

    return run(command)


async def _all(asked: Mapping[str, Awaitable[LoggingState]]) -> dict[str, LoggingState | Exception]:
    found = await asyncio.gather(*asked.values(), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, _GatewayError):
            raise one
    return dict(zip(asked, found, strict=True))  # type: ignore[arg-type]  # what is left of the exceptions is looked at above


async def _ask_url(url: str, change: dict[str, Any]) -> LoggingState:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.request("PUT" if change else "GET", url.rstrip("/") + PAGE, json=change or None) as answer,
        ):
            return _state(answer.status, await answer.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or "no answer in time"
        raise _GatewayError(f"{reason}. Check the URL: the event `ready` in the gateway's log has the admin server's") from error


async def _ask_pod(request: Callable[..., Awaitable[Any]], name: str, change: dict[str, Any]) -> LoggingState:
    path = f"{PODS.path(NAMESPACE, f'{name}:{ADMIN_PORT}', 'proxy')}{PAGE}"
    try:
        if change:
            found = await request("PUT", path, body=change, timeout_s=_TIMEOUT_S)
        else:
            found = await request("GET", path, timeout_s=_TIMEOUT_S)
    except ApiError as error:
        raise _GatewayError(
            f"the API server cannot reach its admin server ({error.message or error.reason}), which is as it should be. "
            f"Run `kubectl -n {NAMESPACE} port-forward {name} {ADMIN_PORT}`, and this command with "
            f"--gateway http://127.0.0.1:{ADMIN_PORT}"
        ) from error
    return msgspec.convert(found, LoggingState)


class _Error(msgspec.Struct):
    field: str
    reason: str


class _Refusal(msgspec.Struct):
    error: _Error


def _state(status: int, body: bytes) -> LoggingState:
    try:
        if status in {200, 500}:
            return msgspec.json.decode(body, type=LoggingState)
        refusal = msgspec.json.decode(body, type=_Refusal).error
    except msgspec.DecodeError as error:
        raise _GatewayError(f"what answers there ({status}) is no admin server of this release: {error}") from error
    raise _GatewayError(f"{refusal.field}: {refusal.reason}" if refusal.field else refusal.reason)


def _show(found: dict[str, LoggingState | Exception], *, as_json: bool) -> int:
    states = {name: state for name, state in found.items() if isinstance(state, LoggingState)}
    errors = {name: str(error) for name, error in found.items() if isinstance(error, Exception)}
    if as_json:
        print_json({"gateways": msgspec.to_builtins(states), "errors": errors})
    elif states:
        print_table(
            ("GATEWAY", "ACCESS LOG", "FORMAT", "STATUS FROM", "SLOWER THAN", "SAMPLED", "LEVEL"),
            [(name, *_row(state)) for name, state in states.items()],
        )
    for name, text in errors.items():
        complain(f"{name}: {text}")
    for name, state in states.items():
        for worker, reason in state.failures.items():
            complain(f"{name}: worker {worker} logs requests as before: {reason}")
    return FAILED if errors or any(state.failures for state in states.values()) else 0


def _row(state: LoggingState) -> tuple[str, ...]:
    log = state.access_log
    return (
        {"off": "off", "-": "standard output"}.get(log.sink, log.sink),
        log.format,
        str(log.min_status) if log.min_status else "-",
        f"{log.slower_than_s:g}s" if log.slower_than_s else "-",
        f"{log.fraction:g}",
        state.level,
    )
