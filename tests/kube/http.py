# SPDX-License-Identifier: Apache-2.0
"""The server's HTTP side: each request is logged, let in, spoilt if a fault waits for it, and answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from tests.kube import access
from tests.kube.discovery import document
from tests.kube.errors import ApiStatus, bad_request, unauthorized
from tests.kube.kinds import Target
from tests.kube.reading import get_object, list_bytes, seen_as
from tests.kube.requests import Query, Request, decode_body

if TYPE_CHECKING:
    from tests.kube.faults import Fault
    from tests.kube.server import FakeApiServer
    from tests.kube.watching import Watch

__all__ = ["Handler"]

JSON = "application/json"


class Handler:
    """Answers requests for one server."""

    def __init__(self, api: FakeApiServer) -> None:
        self._api = api
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Let go of every request that hangs."""
        self._stopped.set()

    async def __call__(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        request = Request(raw.method, raw.path, dict(raw.query), raw.headers.get("User-Agent", ""))
        self._api.requests.append(request)
        try:
            fault = self._api.faults.take(request)
            if fault is not None and fault.kind in {"status", "hang", "reset"}:
                await self._spoil(raw, fault)
            self._let_in(raw)
            return await self._answer(raw, request, fault)
        except ApiStatus as refusal:
            request.status = refusal.code
            return _refuse(refusal)
        except ConnectionError:
            # the client has left, or a fault wants it so
            _reset(raw)
            return web.Response()

    async def _spoil(self, raw: web.BaseRequest, fault: Fault) -> None:
        if fault.status is not None:
            raise fault.status
        if fault.kind == "hang":
            await self._stopped.wait()
        raise ConnectionResetError("a fault was asked for")

    def _let_in(self, raw: web.BaseRequest) -> None:
        tokens = self._api.tokens
        if tokens and raw.headers.get("Authorization", "").removeprefix("Bearer ") not in tokens:
            raise unauthorized()

    async def _answer(self, raw: web.BaseRequest, request: Request, fault: Fault | None) -> web.StreamResponse:
        if raw.method == "POST" and raw.path == access.PATH:
            answer = access.review(_object(orjson.loads(await raw.read())), self._api.denied)
            return await _send(raw, request, [orjson.dumps(answer)], fault, code=201)
        target = self._api.kinds.target(raw.path)
        if target is None:
            return self._document(request)
        query = Query(raw.query)
        if target.subresource not in {"", "status"} or (target.subresource == "status" and not target.kind.status):
            raise ApiStatus(404, "the server could not find the requested resource", details={})
        if raw.method == "GET" and not target.name and query.flag("watch"):
            return await self._watch(raw, request, target, query, fault)
        if raw.method == "GET":
            pieces = [get_object(self._api.store, target, query)] if target.name else list_bytes(self._api.store, target, query)
            return await _send(raw, request, pieces, fault)
        body = await raw.read()
        value = decode_body(body, raw.headers.get("Content-Type", "").partition(";")[0].strip())
        entry, code = self._write(raw, target, query, value)
        return await _send(raw, request, [entry], fault, code=code)

    def _document(self, request: Request) -> web.Response:
        found = document(self._api.kinds, request.path) if request.method == "GET" else None
        if found is None:
            raise ApiStatus(404, "the server could not find the requested resource", details={})
        request.status = 200
        if isinstance(found, str):
            return web.Response(text=found)
        return web.Response(body=orjson.dumps(found), content_type=JSON)

    def _write(self, raw: web.BaseRequest, target: Target, query: Query, value: Any) -> tuple[bytes, int]:
        writer, dry_run, strict = self._api.writer, query.dry_run(), query.text("fieldValidation") == "Strict"
        manager = query.text("fieldManager") or raw.headers.get("User-Agent", "unknown").partition("/")[0]
        match raw.method:
            case "POST" if not target.name:
                entry, code = writer.create(target, _object(value), manager=manager, dry_run=dry_run, strict=strict), 201
            case "PUT" if target.name:
                entry, created = writer.replace(target, _object(value), manager=manager, dry_run=dry_run, strict=strict)
                code = 201 if created else 200
            case "PATCH" if target.name:
                kind = raw.headers.get("Content-Type", "").partition(";")[0].strip()
                manager = query.text("fieldManager") if "apply" in kind else manager
                force = query.flag("force")
                entry, created = writer.patch(target, value, kind, manager=manager, force=force, dry_run=dry_run, strict=strict)
                code = 201 if created else 200
            case "DELETE":
                return self._delete(target, query, value)
            case _:
                raise ApiStatus(405, "the server does not allow this method on the requested resource", details={})
        if not dry_run:
            self._api.wrote(raw.method, entry)
        return seen_as(entry, target.kind).whole, code

    def _delete(self, target: Target, query: Query, value: Any) -> tuple[bytes, int]:
        options = value if isinstance(value, dict) else {}
        grace_s = query.number("gracePeriodSeconds") if query.has("gracePeriodSeconds") else None
        dry_run = query.dry_run() or bool(options.get("dryRun"))
        policy = query.text("propagationPolicy")
        if not target.name:
            return self._delete_all(target, query, options, grace_s=grace_s, policy=policy, dry_run=dry_run), 200
        entry, gone = self._api.writer.delete(target, options, grace_s=grace_s, policy=policy, dry_run=dry_run)
        if not dry_run:
            self._api.wrote("DELETE", entry)
        if not gone or target.kind.key in {("", "pods"), ("", "services")}:
            return seen_as(entry, target.kind).whole, 200
        meta = entry.obj["metadata"]
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural, "uid": meta["uid"]}
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return orjson.dumps(status), 200

    def _delete_all(
        self, target: Target, query: Query, options: dict[str, Any], *, grace_s: int | None, policy: str, dry_run: bool
    ) -> bytes:
        pieces = list_bytes(self._api.store, target, query)
        listed = orjson.loads(b"".join(pieces))
        for item in listed["items"]:
            meta = item["metadata"]
            one = Target(kind=target.kind, namespace=meta.get("namespace", ""), name=meta["name"])
            entry, _ = self._api.writer.delete(one, options, grace_s=grace_s, policy=policy, dry_run=dry_run)
            if not dry_run:
                self._api.wrote("DELETE", entry)
        return b"".join(pieces)

    async def _watch(
        self, raw: web.BaseRequest, request: Request, target: Target, query: Query, fault: Fault | None
    ) -> web.StreamResponse:
        watches = self._api.open_watches
        refusal = None
        try:
            watch = watches.start(target, query)
        except ApiStatus as error:
            if error.code != 410 or self._api.faults.gone_as_status:
                raise
            refusal = error
        request.status = 200
        answer = web.StreamResponse(headers={"Content-Type": JSON})
        answer.enable_chunked_encoding()
        await answer.prepare(raw)
        if refusal is not None:
            await answer.write(b'{"type":"ERROR","object":%b}\n' % orjson.dumps(refusal.body()))
            return answer
        watch.half_line = fault is not None and fault.kind == "half"
        if self._api.faults.end_watches_at_once or (fault is not None and fault.kind == "empty"):
            watches.close(watch)
            return answer
        loop = asyncio.get_running_loop()
        timer = loop.call_later(watch.timeout_s, _expire, watch, self._api) if watch.timeout_s else None
        bookmarks = asyncio.create_task(self._bookmark(watch))
        try:
            await _stream(raw, answer, watch)
        finally:
            watches.close(watch)
            bookmarks.cancel()
            if timer is not None:
                timer.cancel()
        return answer

    async def _bookmark(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(self._api.open_watches.bookmark_every_s)
            watch.bookmark(self._api.version)


def _expire(watch: Watch, api: FakeApiServer) -> None:
    watch.bookmark(api.version)
    watch.end()


async def _stream(raw: web.BaseRequest, answer: web.StreamResponse, watch: Watch) -> None:
    while lines := await watch.take():
        if watch.aborted:
            break
        if watch.half_line:
            first = lines.partition(b"\n")[0]
            await answer.write(first[: len(first) // 2])
            watch.aborted = True
            break
        await answer.write(lines)
    if watch.aborted:
        raise ConnectionResetError("a fault was asked for")


def _reset(raw: web.BaseRequest) -> None:
    if raw.transport is not None:
        raw.transport.abort()


def _refuse(refusal: ApiStatus) -> web.Response:
    headers = {"Retry-After": f"{refusal.retry_after_s:g}"} if refusal.retry_after_s is not None else {}
    return web.Response(status=refusal.code, body=orjson.dumps(refusal.body()), content_type=JSON, headers=headers)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request("the body of the request is no object")
    return value


async def _send(
    raw: web.BaseRequest, request: Request, pieces: list[bytes], fault: Fault | None, *, code: int = 200
) -> web.StreamResponse:
    request.status = code
    answer = web.StreamResponse(status=code, headers={"Content-Type": JSON})
    answer.content_length = sum(map(len, pieces))
    await answer.prepare(raw)
    if fault is not None and fault.kind == "half":
        body = b"".join(pieces)
        await answer.write(body[: len(body) // 2])
        raise ConnectionResetError("a fault was asked for")
    for piece in pieces:
        await answer.write(piece)
    await answer.write_eof()
    return answer
