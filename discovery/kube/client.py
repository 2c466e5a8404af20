# SPDX-License-Identifier: Apache-2.0
"""KubeClient: requests to the Kubernetes API. The only module of discovery that speaks HTTP.

One per process. Settings and credentials come from kubernetes-asyncio's loaders (`credentials`), the session from its REST
client; its generated APIs, models and watch are not used: models cost 20 ms for a large EndpointSlice, and the watch neither
waits between attempts nor notices a dead connection.

Every request has an end: to connect, to be answered, or, for streams, between one byte and the next. Whatever goes wrong is an
`ApiError`; status 0 means that there was no answer, so that the server may or may not have done what it was asked. A refused
credential is renewed and the request sent once more, because the server did nothing. Everything else is up to the caller: to
retry without knowing what for is how a sick API server is kept sick.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from discovery.kube.credentials import ConfigError, Credentials
from discovery.kube.errors import ApiError, refusal
from discovery.kube.machine import Features

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from discovery.kube.credentials import Identity

__all__ = ["ApiError", "ByteStream", "ConfigError", "KubeClient"]

CONNECT_S = 10.0
"""To connect, TLS included. client-go gives a connection 30 s; within a cluster, a round trip is a matter of milliseconds."""

ANSWER_S = 30.0
"""To answer an ordinary request. API servers give up on one after 60 s, admission webhooks after 10 s by default."""

_PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


class ByteStream:
    """The body of an answer as it comes.

    Args:
        response: its head has been read.
        silence_s: longest time without a byte.
    """

    __slots__ = ("_response", "silence_s")

    def __init__(self, response: aiohttp.ClientResponse, silence_s: float) -> None:
        self._response = response
        self.silence_s = silence_s

    async def read(self) -> bytes:
        """Return the bytes that are there, waiting for some; nothing at the end.

        Raises:
            ApiError: The connection broke, or nothing came for too long.
        """
        try:
            async with asyncio.timeout(self.silence_s):
                return await self._response.content.readany()
        except TimeoutError as error:
            raise ApiError(0, "Silence", f"nothing came for {self.silence_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Cut", f"the connection broke: {_text(error)}") from error


class _Session:
    """A session of the library and how many requests use it."""

    def __init__(self, identity: Identity, rest: Any) -> None:
        self.identity = identity
        self.rest = rest
        self.users = 0


class KubeClient:
    """Access to one cluster. Made by `connect`, to be closed by `close`.

    Args:
        credentials: loaded.
        user_agent: how requests introduce themselves; the server's logs and flow control show it.
    """

    def __init__(self, credentials: Credentials, *, user_agent: str = "acmgproxy") -> None:
        self._credentials = credentials
        self._user_agent = user_agent
        self.features = Features()
        """What the server can do, as watches found out."""
        self._session = self._make_session()
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<KubeClient {self.server}>"

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        user_agent: str = "acmgproxy",
        clock: Callable[[], float] = time.monotonic,
    ) -> KubeClient:
        """Load configuration and make a client; no request is made yet.

        Args:
            kubeconfig: file to use. Without it and without context: the pod's service account, else the usual kubeconfig.
            context: of the kubeconfig, None for its current one.
            user_agent: how requests introduce themselves.
            clock: monotonic seconds.

        Raises:
            ConfigError: There is no usable configuration.
        """
        credentials = Credentials(kubeconfig=kubeconfig, context=context, clock=clock)
        await credentials.load()
        return cls(credentials, user_agent=user_agent)

    @property
    def server(self) -> str:
        """Base address of the API server."""
        return self._session.identity.server

    @property
    def namespace(self) -> str:
        """The namespace this runs in, or that of the context."""
        return self._credentials.namespace

    @property
    def problem(self) -> str:
        """Why credentials could not be refreshed the last time, "" if they could."""
        return self._credentials.problem

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = ANSWER_S,
    ) -> Any:
        """Make a request and return its decoded answer: JSON, or text if the server does not answer with JSON.

        Args:
            method: of HTTP.
            path: from the root, percent-encoded (`ApiKind.path`).
            query: parameters; None leaves one out.
            body: to be encoded as JSON; None for none.
            content_type: of the body.
            timeout_s: for all of it.

        Raises:
            ApiError: It failed.
        """
        data = await self.read(method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s)
        try:
            return orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            return data.decode(errors="replace")

    async def read(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = ANSWER_S,
    ) -> bytes:
        """Make a request as `request` does, but return the answer's bytes.

        Raises:
            ApiError: It failed.
        """
        try:
            async with asyncio.timeout(timeout_s), self._answer(method, path, query, body, content_type) as response:
                return await response.read()
        except TimeoutError as error:
            raise ApiError(0, "Timeout", f"{self.server} did not answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Cut", f"the answer of {self.server} broke off: {_text(error)}") from error

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, object] | None = None, answer_s: float = ANSWER_S, silence_s: float
    ) -> AsyncIterator[ByteStream]:
        """Get something that may never end.

        Args:
            path: from the root.
            query: parameters; None leaves one out.
            answer_s: for the answer to begin.
            silence_s: longest time without a byte after that.

        Raises:
            ApiError: There is no good answer.
        """
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(answer_s):
                    response = await stack.enter_async_context(self._answer("GET", path, query, None, ""))
            except TimeoutError as error:
                raise ApiError(0, "Timeout", f"{self.server} did not answer within {answer_s:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise ApiError(0, "Cut", f"the answer of {self.server} broke off: {_text(error)}") from error
            stack.callback(response.close)  # the connection is not to be used again: more may be on its way
            yield ByteStream(response, silence_s)

    async def get(self, path: str, **query: object) -> Any:
        """Get an object or a list.

        Raises:
            ApiError: It failed.
        """
        return await self.request("GET", path, query=query)

    async def create(self, path: str, body: object, **query: object) -> Any:
        """Create an object in the collection at `path`.

        Raises:
            ApiError: It failed; status 409 if it exists.
        """
        return await self.request("POST", path, query=query, body=body)

    async def replace(self, path: str, body: object, **query: object) -> Any:
        """Replace an object; with a resourceVersion in its metadata only if it has not changed since.

        Raises:
            ApiError: It failed; status 409 if it has changed.
        """
        return await self.request("PUT", path, query=query, body=body)

    async def patch(
        self, path: str, body: object, *, kind: Literal["merge", "json", "strategic"] = "merge", **query: object
    ) -> Any:
        """Change an object in part.

        Raises:
            ApiError: It failed.
        """
        return await self.request("PATCH", path, query=query, body=body, content_type=_PATCHES[kind])

    async def apply(self, path: str, body: object, *, field_manager: str, force: bool = True, dry_run: bool = False) -> Any:
        """Create an object or make the fields given what they should be (server-side apply).

        Args:
            path: of the object.
            body: apiVersion, kind, name and the fields that are to be owned.
            field_manager: as whom.
            force: take fields that somebody else owns.
            dry_run: only tell what would come out.

        Raises:
            ApiError: It failed; status 409 if somebody else owns a field.
        """
        query = {"fieldManager": field_manager, "force": force, "dryRun": "All" if dry_run else None}
        return await self.request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> Any:
        """Delete an object.

        Args:
            path: of the object.
            uid: delete only this incarnation of it.
            resource_version: delete only this version of it.
            propagation: what becomes of the objects it owns.

        Raises:
            ApiError: It failed; 404 if it is not there, 409 if it is another one.
        """
        options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if conditions := {name: value for name, value in conditions.items() if value is not None}:
            options["preconditions"] = conditions
        return await self.request("DELETE", path, body=options)

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        await self._session.rest.close()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, query: Mapping[str, object] | None, body: object, content_type: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the good answer's head, after renewing refused credentials if need be."""
        await self._refresh()
        refused = self._credentials.authorization
        session = self._session
        session.users += 1
        try:
            response = await self._send(session, method, path, query, body, content_type)
            if response.status == 401 and await self._credentials.refused(refused):
                response.release()
                self._renew_session()
                session.users -= 1
                session = self._session
                session.users += 1
                response = await self._send(session, method, path, query, body, content_type)
            async with response:
                if not 200 <= response.status <= 299:
                    raise await _refusal(response)
                yield response
        finally:
            session.users -= 1
            if session is not self._session and not session.users:
                self._retire(session)

    async def _send(
        self, session: _Session, method: str, path: str, query: Mapping[str, object] | None, body: object, content_type: str
    ) -> aiohttp.ClientResponse:
        # Compressed answers would cost more processor time than they save of a cluster's network.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        if authorization := self._credentials.authorization:
            headers["Authorization"] = authorization
        if body is not None:
            headers["Content-Type"] = content_type
        rest = session.rest
        options: dict[str, Any] = {"proxy": rest.proxy, "proxy_headers": rest.proxy_headers} if rest.proxy else {}
        if rest.server_hostname:
            options["server_hostname"] = rest.server_hostname
        parameters = urlencode({name: _parameter(value) for name, value in (query or {}).items() if value is not None})
        url = URL(f"{session.identity.server}{path}{'?' if parameters else ''}{parameters}", encoded=True)
        data = None if body is None else orjson.dumps(body)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)  # the callers see to the rest
        try:
            sent = rest.pool_manager.request(method, url, headers=headers, data=data, timeout=timeout, **options)
            return await sent  # type: ignore[no-any-return]
        except aiohttp.ServerTimeoutError as error:
            raise ApiError(0, "Timeout", f"no connection to {session.identity.server} within {CONNECT_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{session.identity.server}: {_text(error)}") from error

    async def _refresh(self) -> None:
        await self._credentials.refresh()
        self._renew_session()

    def _renew_session(self) -> None:
        """Make a new session if certificates or the server have changed; the old one ends with its last request."""
        if self._credentials.identity == self._session.identity:
            return
        old = self._session
        try:
            self._session = self._make_session()
        except ConfigError as error:  # half-written files: the old session does for another minute
            self._credentials.problem = str(error)
            return
        if not old.users:
            self._retire(old)

    def _retire(self, session: _Session) -> None:
        task = asyncio.ensure_future(session.rest.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _make_session(self) -> _Session:
        found = self._credentials
        try:
            return _Session(found.identity, found.library.rest.RESTClientObject(found.configuration))
        except (OSError, ValueError) as error:  # SSLError is an OSError
            files = ", ".join(name for name, _, _ in found.identity.files)
            raise ConfigError(f"certificates or key cannot be used: {error} ({files})") from error


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    """Make an error of an answer that is not good."""
    return refusal(response.status, response.reason or "", response.headers.get("Retry-After", ""), await response.read())


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
