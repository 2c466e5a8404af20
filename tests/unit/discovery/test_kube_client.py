# SPDX-License-Identifier: Apache-2.0
"""Requests to the API: what they look like, and what becomes of answers."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trustme
from aiohttp import web

from discovery.kube import ApiError, ConfigError, KubeClient
from discovery.kube import credentials as credentials_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

EXEC_API = "client.authentication.k8s.io/v1"


class Server:
    """Answers with what a test puts into `answer`, and remembers requests."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self._fine

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return await self.answer(request)

    @staticmethod
    async def _fine(request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    def tokens(self) -> list[str]:
        return [headers.get("Authorization", "") for _, _, headers, _ in self.seen]


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as found:
        yield found


def write_config(path: Path, server: str, user: dict[str, Any] | None = None, *, cluster: dict[str, Any] | None = None) -> Path:
    file = path / "config"
    config = {
        "clusters": [{"name": "k", "cluster": {"server": server, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "k", "user": "u", "namespace": "space"}},
            {"name": "two", "context": {"cluster": "k", "user": "u"}},
        ],
        "current-context": "one",
    }
    file.write_bytes(orjson.dumps(config))
    return file


@pytest.fixture
async def client(server: Server, tmp_path: Path) -> AsyncIterator[KubeClient]:
    found = await KubeClient.connect(kubeconfig=write_config(tmp_path, server.url, {"token": "secret"}), user_agent="test/1")
    yield found
    await found.close()


async def test_a_request_says_who_asks_and_for_what(server: Server, client: KubeClient) -> None:
    assert await client.get("/api/v1/pods", limit=5, watch=True, skip=None, labelSelector="a=b,c in (d)") == {"ok": True}
    method, path, headers, body = server.seen[0]
    assert (method, path) == ("GET", "/api/v1/pods?limit=5&watch=true&labelSelector=a%3Db%2Cc+in+%28d%29")
    assert (headers["Authorization"], headers["User-Agent"], headers["Accept"]) == ("Bearer secret", "test/1", "application/json")
    assert (headers["Accept-Encoding"], body) == ("identity", b"")
    assert (client.server, client.namespace, client.problem) == (server.url, "space", "")
    assert repr(client) == f"<KubeClient {server.url}>"


async def test_each_verb_is_the_apis_own(server: Server, client: KubeClient) -> None:
    await client.create("/x", {"a": 1}, fieldManager="m")
    await client.replace("/x", {"a": 1})
    await client.patch("/x", {"a": 1})
    await client.patch("/x", [{"op": "test"}], kind="json")
    await client.patch("/x", {"a": 1}, kind="strategic")
    await client.apply("/x", {"a": 1}, field_manager="m")
    await client.apply("/x", {"a": 1}, field_manager="m", force=False, dry_run=True)
    await client.delete("/x")
    await client.delete("/x", uid="u", resource_version="5", propagation="Foreground")
    assert [(method, path, headers["Content-Type"]) for method, path, headers, _ in server.seen] == [
        ("POST", "/x?fieldManager=m", "application/json"),
        ("PUT", "/x", "application/json"),
        ("PATCH", "/x", "application/merge-patch+json"),
        ("PATCH", "/x", "application/json-patch+json"),
        ("PATCH", "/x", "application/strategic-merge-patch+json"),
        ("PATCH", "/x?fieldManager=m&force=true", "application/apply-patch+yaml"),
        ("PATCH", "/x?fieldManager=m&force=false&dryRun=All", "application/apply-patch+yaml"),
        ("DELETE", "/x", "application/json"),
        ("DELETE", "/x", "application/json"),
    ]
    options = [orjson.loads(body) for _, _, _, body in server.seen[-2:]]
    assert options[0] == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert options[1]["preconditions"] == {"uid": "u", "resourceVersion": "5"}


async def test_a_refusal_tells_status_reason_and_message(server: Server, client: KubeClient) -> None:
    async def refuse(request: web.Request) -> web.Response:
        status = {"kind": "Status", "reason": "Conflict", "message": "it changed", "details": {"retryAfterSeconds": 4}}
        return web.json_response(status, status=409)

    server.answer = refuse
    with pytest.raises(ApiError) as caught:
        await client.get("/x")
    error = caught.value
    assert (error.status, error.reason, error.message, error.retry_after_s) == (409, "Conflict", "it changed", 4.0)
    assert str(error) == "409 Conflict: it changed"


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)])
async def test_a_refusal_that_is_no_status_is_told_as_it_is(
    server: Server, client: KubeClient, header: str, wait: float | None
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=503, text="try\n later", headers={"Retry-After": header})

    server.answer = refuse
    with pytest.raises(ApiError) as caught:
        await client.get("/x")
    assert (caught.value.status, caught.value.reason, caught.value.message) == (503, "Service Unavailable", "try later")
    assert caught.value.retry_after_s == wait


async def test_an_answer_may_be_text_or_nothing(server: Server, client: KubeClient) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="ok" if request.path == "/readyz" else "")

    server.answer = answer
    assert await client.get("/readyz") == "ok"
    assert await client.get("/none") is None


async def test_no_answer_has_status_0(server: Server, client: KubeClient, tmp_path: Path) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    server.answer = hang
    with pytest.raises(ApiError, match=r"did not answer within 0\.05 s") as caught:
        await client.request("GET", "/x", timeout_s=0.05)
    assert (caught.value.status, caught.value.reason) == (0, "Timeout")
    with pytest.raises(ApiError, match=r"did not answer within 0\.05 s"):
        async with client.stream("/x", answer_s=0.05, silence_s=1):
            pass
    server.answer = cut
    with pytest.raises(ApiError) as caught:
        await client.get("/x")
    assert (caught.value.status, caught.value.reason) == (0, "Cut")
    nobody = await KubeClient.connect(kubeconfig=write_config(tmp_path, "http://127.0.0.1:1"))
    with pytest.raises(ApiError) as caught:
        await nobody.get("/x")
    assert (caught.value.status, caught.value.reason) == (0, "Unreachable")
    assert "127.0.0.1" in caught.value.message
    await nobody.close()


async def test_a_stream_gives_what_comes_and_notices_silence_and_cuts(server: Server, client: KubeClient) -> None:
    go_on = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        if request.path == "/silent":
            await go_on.wait()
        if request.path == "/cut":
            assert request.transport is not None
            request.transport.abort()
        return response

    server.answer = stream
    async with client.stream("/end", silence_s=10) as found:
        assert [await found.read(), await found.read()] == [b"one", b""]
    for path, reason in (("/silent", "Silence"), ("/cut", "Cut")):
        async with client.stream(path, silence_s=0.1) as found:
            assert await found.read() == b"one"
            with pytest.raises(ApiError) as caught:
                await found.read()
            assert (caught.value.status, caught.value.reason) == (0, reason)
    go_on.set()


async def test_a_refused_token_is_looked_up_again_and_the_request_repeated_once(server: Server, tmp_path: Path) -> None:
    async def judge(request: web.Request) -> web.Response:
        is_good = request.headers["Authorization"] == "Bearer new"
        return web.json_response({} if is_good else {"reason": "Unauthorized", "message": "who?"}, status=200 if is_good else 401)

    server.answer = judge
    now = [0.0]
    client = await KubeClient.connect(kubeconfig=write_config(tmp_path, server.url, {"token": "old"}), clock=lambda: now[0])
    with pytest.raises(ApiError, match="401"):
        await client.get("/x")
    assert server.tokens() == ["Bearer old"]  # the file says the same, so there is no use in trying again
    write_config(tmp_path, server.url, {"token": "new"})
    with pytest.raises(ApiError, match="401"):
        await client.get("/x")  # loaded only just now
    now[0] += 11
    await client.get("/x")
    assert server.tokens() == ["Bearer old", "Bearer old", "Bearer old", "Bearer new"]
    await client.close()


async def test_a_token_file_is_read_again_each_minute(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    now = [0.0]
    config = write_config(tmp_path, server.url, {"tokenFile": str(token)})
    client = await KubeClient.connect(kubeconfig=config, clock=lambda: now[0])
    await client.get("/x")
    token.write_text("two\n")
    await client.get("/x")
    now[0] += 61
    await client.get("/x")
    token.unlink()
    now[0] += 61
    await client.get("/x")
    assert server.tokens() == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]
    assert "token" in client.problem
    await client.close()


@pytest.mark.parametrize("endless", [False, True])
async def test_an_exec_plugin_is_asked_again_when_its_credential_runs_out_or_is_refused(
    server: Server, tmp_path: Path, endless: bool
) -> None:
    count = tmp_path / "count"
    status = '"token": f"t{n}"' + ("" if endless else ', "expirationTimestamp": "2001-01-01T00:00:00Z"')
    script = (
        "import json, pathlib; p = pathlib.Path(r'" + str(count) + "'); n = len(p.read_text()) if p.exists() else 0; "
        "p.write_text('x' * (n + 1)); "
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': {"
        + status
        + "}}))"
    )
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": ["-c", script]}
    now = [0.0]
    client = await KubeClient.connect(kubeconfig=write_config(tmp_path, server.url, {"exec": plugin}), clock=lambda: now[0])
    await client.get("/x")
    now[0] += 61
    await client.get("/x")
    assert server.tokens() == ["Bearer t0", "Bearer t0" if endless else "Bearer t1"]

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({}, status=401)

    server.answer = refuse
    with pytest.raises(ApiError):
        await client.get("/x")
    assert server.tokens()[2:] == (["Bearer t0", "Bearer t1"] if endless else ["Bearer t1", "Bearer t2"])
    await client.close()


async def test_the_service_account_of_a_pod_is_used_and_its_token_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(context) as server:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
        (tmp_path / "token").write_text("one\n")
        (tmp_path / "namespace").write_text("acmg-system\n")
        monkeypatch.setattr(credentials_module, "_ACCOUNT", tmp_path)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
        now = [0.0]
        client = await KubeClient.connect(clock=lambda: now[0])
        assert (client.server, client.namespace) == (server.url, "acmg-system")
        await client.get("/x")
        (tmp_path / "token").write_text("two\n")
        now[0] += 61
        await client.get("/x")
        assert server.tokens() == ["Bearer one", "Bearer two"]
        before = client._session
        async with client.stream("/x", silence_s=5) as stream:
            (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes() + b"\n")  # another file: another session
            now[0] += 61
            await client.get("/x")
            assert client._session is not before
            assert not before.rest.pool_manager.closed  # as long as somebody reads from it
            assert await stream.read()
        await asyncio.gather(*client._closing)
        assert before.rest.pool_manager.closed
        await client.close()


async def test_certificates_that_are_being_written_leave_the_session_as_it_is(server: Server, tmp_path: Path) -> None:
    good = trustme.CA().cert_pem.bytes()
    authority, now = tmp_path / "ca.crt", [0.0]
    authority.write_bytes(good)
    cluster = {"certificate-authority": str(authority)}
    client = await KubeClient.connect(
        kubeconfig=write_config(tmp_path, "https://127.0.0.1:1", cluster=cluster), clock=lambda: now[0]
    )
    before = client._session
    for data, is_kept in ((b"-----BEGIN", True), (good + b"\n", False)):
        authority.write_bytes(data)
        now[0] += 61
        with pytest.raises(ApiError, match="Unreachable"):
            await client.get("/x")
        assert (client._session is before) is is_kept
        assert ("certificates or key" in client.problem) is is_kept
    await client.close()


async def test_a_pod_without_service_account_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        await KubeClient.connect()


async def test_what_is_wrong_with_a_kubeconfig_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"no way to reach a cluster.*none does not exist; pass --kubeconfig"):
        await KubeClient.connect()
    with pytest.raises(ConfigError, match="there is no such file"):
        await KubeClient.connect(kubeconfig=tmp_path / "none")
    file = write_config(tmp_path, "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"there is no context 'three'; there are one, two \(current: one\)"):
        await KubeClient.connect(kubeconfig=file, context="three")
    write_config(tmp_path, "https://127.0.0.1:1", cluster={"certificate-authority": "missing.crt"})
    with pytest.raises(ConfigError, match=r"missing\.crt"):
        await KubeClient.connect(kubeconfig=file)
    write_config(tmp_path, "https://127.0.0.1:1", cluster={"certificate-authority-data": "bm9uc2Vuc2U="})
    with pytest.raises(ConfigError, match="certificates or key cannot be used"):
        await KubeClient.connect(kubeconfig=file)
    write_config(tmp_path, "", {"token": "x"})
    with pytest.raises(ConfigError, match="names no server"):
        await KubeClient.connect(kubeconfig=file)
    write_config(tmp_path, "http://x", {"exec": {"apiVersion": "v1", "command": "/no/such/plugin"}})
    with pytest.raises(ConfigError, match="/no/such/plugin"):
        await KubeClient.connect(kubeconfig=file)
    for text, reason in (("- a\n", "is no valid kubeconfig"), ("a: [", "is no YAML"), ("", "is no valid kubeconfig")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            await KubeClient.connect(kubeconfig=file)


async def test_the_usual_kubeconfig_and_a_context_are_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(write_config(tmp_path, server.url)))
    client = await KubeClient.connect(context="two")
    assert client.namespace == "default"
    await client.get("/x")
    assert server.tokens() == [""]
    await client.close()


_LEAN = """
import sys
import discovery.kube, discovery.files, discovery.pipeline
assert "kubernetes_asyncio" not in sys.modules and not any(name.startswith("kubernetes") for name in sys.modules)
from discovery.kube import _library
found = _library.load()
assert not any(name.startswith("kubernetes_asyncio.client.api") for name in sys.modules), "the generated part"
assert found.config.load_kube_config and found.rest.RESTClientObject and found.configuration
import kubernetes_asyncio
from kubernetes_asyncio.client import CoreV1Api
assert kubernetes_asyncio.client.Configuration is found.configuration and kubernetes_asyncio.config is found.config
assert _library.load() == found
"""

_WHOLE = """
import sys, importlib
from discovery.kube import _library
def fail():
    import kubernetes_asyncio.nonsense
_library._import_lean = fail
found = _library.load()
assert found.config.load_kube_config and "kubernetes_asyncio.client.api" in sys.modules
"""


@pytest.mark.parametrize("program", [_LEAN, _WHOLE], ids=["lean", "whole"])
def test_the_library_is_imported_late_and_only_in_part(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
