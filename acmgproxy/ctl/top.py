# SPDX-License-Identifier: Apache-2.0
"""`acmgctl top`: the traffic of Services over all gateways, as a table that is always of now, or once.

Gateways are asked through the API server's pod proxy, so that it works from anywhere kubectl does; that takes the right to get
pods/proxy. One that does not answer is told of and left out. On a terminal the table stays until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import aiohttp
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from acmgproxy.ctl.cluster import NAMESPACE, NOT_DONE, OURS, CtlError, Where, connected, list_all, run
from acmgproxy.ctl.terminal import print_json, print_table, warn
from acmgproxy.ctl.traffic import Answer, Row, add_up
from discovery.kube import PODS, ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from discovery.kube import KubeClient

__all__ = ["TopOptions", "run_top"]

EVERY_S = 2.0
_PORT = 15021
_TIMEOUT_S = 3.0
_AT_ONCE = 8
_SELECTOR = f"{OURS},app.kubernetes.io/component=gateway"
_TITLES = ("NAMESPACE", "SERVICE", "REQ/S", "ERR/S", "ERRORS", "P50", "P99", "ENDPOINTS", "EJECTED")
_NUMBERS = frozenset(_TITLES[2:])
_FRAME_LINES = 6
"""Lines of the terminal that are not for Services: the head, the sum, notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOptions:
    """What the command line says.

    Args:
        where: the cluster, unless there are `gateways`.
        gateways: URLs of admin or health servers.
        namespace: whose Services; "" for all.
        window_s: the time that figures are about.
        once: print and end.
        output: for people or for programs.
    """

    where: Where
    gateways: tuple[str, ...] = ()
    namespace: str = ""
    window_s: float = 60.0
    once: bool = False
    output: Literal["table", "json"] = "table"


_Told = dict[str, Answer | str]
"""By gateway its answer, or why there is none."""


class _Seen(NamedTuple):
    """What was found out in one round. `silent` says by gateway why it gave no answer."""

    total: Row
    rows: list[Row]
    answered: int
    silent: dict[str, str]
    seconds: float


def run_top(options: TopOptions) -> int:
    """Show the traffic; return the exit code."""
    return run(lambda: _top(options))


async def _top(options: TopOptions) -> int:
    async with AsyncExitStack() as stack:
        if options.gateways:
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)))
            ask = _by_url(session, options)
        else:
            ask = _by_cluster(await stack.enter_async_context(connected(options.where)), options)
        seen = await _look(ask, options)
        console = Console(highlight=False)
        if options.output == "json":
            print_json(_as_data(seen))
        elif options.once or not console.is_terminal:
            _print(seen)
        else:
            await _live(console, ask, options, seen)
    return 0


async def _look(ask: Callable[[], Awaitable[_Told]], options: TopOptions) -> _Seen:
    """Ask all gateways once.

    Raises:
        CtlError: there is none, or none answers.
    """
    told = await ask()
    answers = [one for one in told.values() if isinstance(one, Answer)]
    silent = {gateway: one for gateway, one in told.items() if isinstance(one, str)}
    if not told:
        raise CtlError("no gateway runs in this cluster; `acmgctl status` says why", code=NOT_DONE)
    if not answers:
        gateway, why = next(iter(silent.items()))
        raise CtlError(f"no gateway answers; {gateway}: {why}. `acmgctl status` says how gateways are", code=NOT_DONE)
    total, rows = add_up(answers, options.namespace)
    return _Seen(total, rows, len(answers), silent, max(one.window.seconds for one in answers))


# --- asking -------------------------------------------------------------------------------------------------------------------


def _by_url(session: aiohttp.ClientSession, options: TopOptions) -> Callable[[], Awaitable[_Told]]:
    async def ask_one(url: str) -> Answer | str:
        address = f"{url.rstrip('/')}/overview/services"
        try:
            async with session.get(address, params={"window": str(options.window_s)}) as answer:
                if answer.status != 200:
                    return f"answers {answer.status} to {address}; is it the admin server of a gateway?"
                return msgspec.json.decode(await answer.read(), type=Answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"gives no answer ({str(error) or 'too slow'}); check the address, and that the gateway runs"
        except msgspec.MsgspecError as error:
            return f"gives an answer that is none of this release: {error}"

    async def ask() -> _Told:
        answers = await asyncio.gather(*map(ask_one, options.gateways))
        return dict(zip(options.gateways, answers, strict=True))

    return ask


def _by_cluster(client: KubeClient, options: TopOptions) -> Callable[[], Awaitable[_Told]]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask_one(pod: str) -> Answer | str:
        path = f"{PODS.path(NAMESPACE, f'{pod}:{_PORT}', 'proxy')}/overview/services"
        try:
            async with slots:
                answer = await client.request("GET", path, query={"window": str(options.window_s)}, timeout_s=_TIMEOUT_S)
            return msgspec.convert(answer, Answer)
        except ApiError as error:
            if error.status == 403:
                return f"that takes the right to get pods/proxy in namespace {NAMESPACE}"
            return f"gives no answer: {error.message or error.reason}"
        except msgspec.MsgspecError as error:
            return f"gives an answer that is none of this release: {error}"

    async def ask() -> _Told:
        pods = [pod["metadata"]["name"] for pod in await list_all(client, PODS.path(NAMESPACE), labelSelector=_SELECTOR)]
        return dict(zip(pods, await asyncio.gather(*map(ask_one, pods)), strict=True))

    return ask


# --- showing ------------------------------------------------------------------------------------------------------------------


async def _live(console: Console, ask: Callable[[], Awaitable[_Told]], options: TopOptions, seen: _Seen) -> None:
    """Show the table until Ctrl-C. What cannot be found out at the moment is said in its place."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            live.update(_screen(seen, console.height, trouble), refresh=True)
            try:
                await asyncio.wait_for(stop.wait(), EVERY_S)
            except TimeoutError:
                try:
                    seen, trouble = await _look(ask, options), ""
                except (CtlError, ApiError) as error:
                    trouble = f"{error}. What is shown is of before; it is tried again"


def _screen(seen: _Seen, height: int, trouble: str) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for title in _TITLES:
        table.add_column(title, justify="right" if title in _NUMBERS else "left", no_wrap=title in _NUMBERS, overflow="fold")
    room = max(1, height - _FRAME_LINES - len(seen.silent))
    for row in seen.rows[:room]:
        table.add_row(*(Text(cell, style=_style(title, row)) for title, cell in zip(_TITLES, _cells(row), strict=True)))
    lines: list[RenderableType] = [Text(_headline(seen), style="bold"), Text(_sum(seen.total)), table]
    if len(seen.rows) > room:
        lines.append(Text(f"{len(seen.rows) - room} more Services; -n NAMESPACE or a larger window shows them", style="dim"))
    lines += [Text(f"{gateway} {why}", style="yellow") for gateway, why in seen.silent.items()]
    if trouble:
        lines.append(Text(trouble, style="bold red"))
    return Group(*lines)


def _style(title: str, row: Row) -> str:
    if title in {"ERR/S", "ERRORS"} and row.errors:
        return "red"
    return "yellow" if title == "EJECTED" and row.ejected else ""


def _print(seen: _Seen) -> None:
    for gateway, why in seen.silent.items():
        warn(f"gateway {gateway} {why}")
    print_table(_TITLES, [("", "total", *_cells(seen.total)[2:]), *map(_cells, seen.rows)])


def _headline(seen: _Seen) -> str:
    asked = seen.answered + len(seen.silent)
    gateways = f"{seen.answered} of {asked} gateways" if seen.silent else f"{asked} gateway{'s' if asked > 1 else ''}"
    return f"{gateways}, last {seen.seconds:.0f} s, Ctrl-C ends"


def _sum(total: Row) -> str:
    _, _, rate, _, errors, p50, p99, *_ = _cells(total)
    return f"{rate} requests/s, errors {errors}, p50 {p50}, p99 {p99}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.namespace if row.name != "unknown" else "-",
        row.service if row.name != "unknown" else "(no known Service)",
        f"{row.rate:,.2f}",
        f"{row.error_rate:,.2f}",
        "-" if row.error_ratio is None else f"{100 * row.error_ratio:.2f} %",
        _milliseconds(row.p50_ms),
        _milliseconds(row.p99_ms),
        str(row.endpoints),
        str(row.ejected),
    )


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _as_data(seen: _Seen) -> dict[str, Any]:
    total: dict[str, Any] = msgspec.to_builtins(seen.total)
    for name in ("name", "namespace", "service"):
        del total[name]
    return {
        "window_s": seen.seconds,
        "gateways": seen.answered,
        "silent_gateways": seen.silent,
        "total": total,
        "services": _plain(seen.rows),
    }


def _plain(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(row) for row in rows]
