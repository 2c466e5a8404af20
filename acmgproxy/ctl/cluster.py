# SPDX-License-Identifier: Apache-2.0
"""How commands reach a cluster, and what people are told when that fails.

Exit codes are the same for all commands: 0 done, 1 the cluster is not as it should be or does not become so, 2 the command could
not do its work (no access, missing rights, bad options), 130 interrupted. An error is one line: what, why, and what to do next.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acmgproxy.ctl.terminal import complain
from discovery.kube import ApiError, ConfigError, KubeClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    from discovery.kube import ApiKind

__all__ = [
    "CONTROLLER",
    "FAILED",
    "FIELD_MANAGER",
    "GATEWAY",
    "INTERRUPTED",
    "NAMESPACE",
    "NOT_DONE",
    "OURS",
    "CtlError",
    "Object",
    "Where",
    "connected",
    "explain",
    "find",
    "list_all",
    "list_kind",
    "run",
    "until",
]

Object = dict[str, Any]
"""An object of the API as JSON has it."""

NAMESPACE = "acmg-system"
GATEWAY = "acmg-gateway"
CONTROLLER = "acmg-controller"
FIELD_MANAGER = "acmgctl"
OURS = "app.kubernetes.io/name=acmgproxy"
"""Label of our pods."""

FAILED = 1
NOT_DONE = 2
INTERRUPTED = 130

_PAGE = 500
"""Objects per answer of a list; what kubectl asks for."""

_POLL_S = 0.5


class CtlError(Exception):
    """Why a command fails, in words for people. `code` is the exit code."""

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which cluster: a kubeconfig and one of its contexts; None is kubectl's choice."""

    kubeconfig: Path | None = None
    context: str | None = None


def run(command: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a command to its end; return the exit code. Errors are told, not raised."""
    try:
        return asyncio.run(command())
    except KeyboardInterrupt:
        complain("interrupted; what is done stays done, and running the same command again continues")
        return INTERRUPTED
    except CtlError as error:
        complain(str(error))
        return error.code
    except ConfigError as error:
        complain(str(error))
        return NOT_DONE
    except ApiError as error:
        complain(explain(error))
        return NOT_DONE
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def explain(error: ApiError, server: str = "") -> str:
    """Say in one line what an answer of the API server means, and what to do."""
    message = error.message.rstrip(". ") or error.reason
    at = f" {server}" if server else ""
    match error.status:
        case 0:
            return (
                f"the API server{at} gives no answer: {message}. Check that the cluster is up and that --context is the right one"
            )
        case 401:
            return (
                f"the API server{at} does not accept these credentials: {message}. Log in again, or choose others with --context"
            )
        case 403:
            return f"{message}. Ask an administrator of the cluster for this right"
        case 409:
            return f"{message}. Somebody else changed the object at the same time; run the command again"
        case 429 | 500 | 502 | 503 | 504:
            return f"the API server{at} is in trouble ({error.status}): {message}. Run the command again in a while"
        case _:
            return f"the API server{at} refuses ({error.status} {error.reason}): {message}"


@asynccontextmanager
async def connected(where: Where) -> AsyncIterator[KubeClient]:
    """Connect to the cluster for a while.

    Raises:
        ConfigError: the kubeconfig does not say how.
        CtlError: the API server refused something or did not answer.
    """
    client = await KubeClient.connect(kubeconfig=where.kubeconfig, context=where.context, user_agent=FIELD_MANAGER)
    try:
        yield client
    except ApiError as error:
        raise CtlError(explain(error, client.server), code=NOT_DONE) from error
    finally:
        await client.close()


async def find(client: KubeClient, path: str, *, may_be_hidden: bool = False) -> Object | None:
    """Return the object at `path`, None if there is none; also None if we may not see it and that does not matter."""
    try:
        found: Object = await client.get(path)
    except ApiError as error:
        if error.status == 404 or (may_be_hidden and error.status == 403):
            return None
        raise
    return found


async def list_all(client: KubeClient, path: str, **query: str) -> list[Object]:
    """Return the objects of a list, page by page. A kind that the cluster does not have has none."""
    objects: list[Object] = []
    following = ""
    while True:
        more = {"continue": following} if following else {}
        try:
            page: Object = await client.get(path, limit=str(_PAGE), **query, **more)
        except ApiError as error:
            if error.status == 404:
                return []
            if error.status == 410 and following:  # the list grew too old between two pages: from the start
                objects, following = [], ""
                continue
            raise
        objects += page.get("items") or ()
        following = page.get("metadata", {}).get("continue") or ""
        if not following:
            return objects


async def list_kind(client: KubeClient, kind: ApiKind) -> list[Object]:
    """Return the objects of a kind in the best version that the cluster has; none if we may not see them."""
    for version in (kind.version, *kind.older):
        try:
            found = await list_all(client, kind._replace(version=version).path())
        except ApiError as error:
            if error.status != 403:
                raise
            found = []
        if found:
            return found
    return []


async def until(check: Callable[[], Awaitable[bool]], *, timeout_s: float, poll_s: float = _POLL_S) -> bool:
    """Ask again and again until `check` says yes; return False if it never does.

    An answer that fails because the API server is in trouble is one more "no": what is waited for may still come.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            if await check():
                return True
        except ApiError as error:
            if not _passes(error) or loop.time() >= deadline:
                raise
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(min(poll_s, max(0.0, deadline - loop.time())))


def _passes(error: ApiError) -> bool:
    return error.status in {0, 409, 429} or error.status >= 500
