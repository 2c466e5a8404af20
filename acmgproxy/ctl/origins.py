# SPDX-License-Identifier: Apache-2.0
"""Where `acmgctl route` and `acmgctl config` get a configuration from.

    --config DIR      files, translated here
    --kubernetes      the objects of a cluster, translated here
    --gateway URL     the admin server of a running gateway
    nothing           a running gateway of the cluster, through the API server; if none can be asked, its objects

A gateway's admin server listens on its pod's loopback address unless it is told otherwise, and then the API server cannot reach
it: that is the usual case, and no trouble, because a gateway would make the same of the same objects. What only it knows
(versions, ejections) can be had with `kubectl port-forward` and `--gateway`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
import msgspec
import orjson

from acmgproxy.asking import answer
from acmgproxy.ctl.analyze import Objects, read_objects
from acmgproxy.ctl.cluster import NAMESPACE, NOT_DONE, OURS, CtlError, Where, connected, list_all
from acmgproxy.ctl.gateways import is_ready
from discovery.kube import PODS, ApiError, KubeSource
from routing.explain import Explanation, QuestionError
from routing.specs import Specs
from routing.store import Store
from routing.translate import TranslateOptions, resolved, translate

if TYPE_CHECKING:
    from acmgproxy.asking import Question
    from acmgproxy.ctl.cluster import Object
    from discovery.kube import KubeClient

__all__ = ["Asked", "Known", "Told", "explain_there", "read_specs"]

ADMIN_PORT = 15000
_TIMEOUT_S = 10.0
_PROXY_TIMEOUT_S = 3.0
"""A gateway answers in milliseconds; where nothing listens the API server says so at once."""
_READ_S = 30.0
"""How long reading a cluster's objects may take: for 50,000 endpoints it is a few seconds."""
_ANYWHERE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says about the source: at most one of them; none means the cluster's gateways."""

    config: str = ""
    kubernetes: bool = False
    gateway: str = ""
    where: Where

    def check(self) -> None:
        """Refuse a choice that is none.

        Raises:
            CtlError: several sources are named.
        """
        if sum((bool(self.config), self.kubernetes, bool(self.gateway))) > 1:
            raise CtlError("--config, --kubernetes and --gateway are three sources; give one of them, or none", code=NOT_DONE)


class Known(NamedTuple):
    """A configuration, where it is from, and what should be known about that. `addresses` are those of Pods."""

    specs: Specs
    origin: str
    addresses: dict[tuple[str, str], tuple[str, ...]]
    notes: tuple[str, ...] = ()


class Told(NamedTuple):
    """An explanation, where it is from, and what should be known about that."""

    explanation: Explanation
    origin: str
    notes: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    version: int
    worker_versions: dict[str, int]
    explanation: Explanation


async def explain_there(asked: Asked, question: Question) -> Told:
    """Have a question answered by the source.

    Raises:
        CtlError: there is no answer.
    """
    asked.check()
    page = "/explain?" + urlencode([
        ("url", question.url), ("method", question.method), *(("header", line) for line in question.headers),
        ("from", question.source), ("to", question.to),
    ])  # fmt: skip
    if asked.gateway:
        return _told(await _ask(asked.gateway, page), f"gateway {asked.gateway}")
    if asked.config:
        return _explain(_of_files(asked.config), question)
    async with connected(asked.where) as client:
        if not asked.kubernetes:
            found = await _ask_any(client, page)
            if found is not None:
                return _told(*found)
        known = await _of_cluster(client)
    return _explain(known, question)


def _explain(known: Known, question: Question) -> Told:
    try:
        explanation = answer(known.specs, question, lambda namespace, name: known.addresses.get((namespace, name), ()))
    except QuestionError as error:
        raise CtlError(str(error), code=NOT_DONE) from error
    return Told(explanation, known.origin, known.notes)


def _told(data: bytes, origin: str) -> Told:
    try:
        found = msgspec.json.decode(data, type=_Answer)
    except msgspec.DecodeError as error:
        raise _other_release(origin, error) from error
    behind = [number for number, version in found.worker_versions.items() if version != found.version]
    notes = (f"worker {', '.join(behind)} does not have this configuration yet",) if behind else ()
    return Told(found.explanation, f"{origin}, configuration {found.version}", notes)


async def read_specs(asked: Asked) -> Known:
    """Return the configuration of the source.

    Raises:
        CtlError: it cannot be had.
    """
    asked.check()
    if asked.gateway:
        return _decoded(await _ask(asked.gateway, "/config"), f"gateway {asked.gateway}")
    if asked.config:
        return _of_files(asked.config)
    async with connected(asked.where) as client:
        if not asked.kubernetes:
            found = await _ask_any(client, "/config")
            if found is not None:
                return _decoded(*found)
        return await _of_cluster(client)


def _decoded(data: bytes, origin: str) -> Known:
    try:
        return Known(msgspec.json.decode(data, type=Specs), origin, {})
    except msgspec.DecodeError as error:
        raise _other_release(origin, error) from error


def _other_release(origin: str, error: Exception) -> CtlError:
    return CtlError(f"{origin} gives an answer that is none of this release: {error}. Use its acmgctl", code=NOT_DONE)


# Translated here.


def _of_files(path: str) -> Known:
    try:
        objects = read_objects(path)
    except OSError as error:
        raise CtlError(f"{path}: {error.strerror}; name a file or directory of YAML or JSON", code=NOT_DONE) from error
    return _translated(objects, path)


async def _of_cluster(client: KubeClient) -> Known:
    source = KubeSource(client)
    try:
        async with asyncio.timeout(_READ_S):
            changes = await source.first()
    except TimeoutError as error:
        waiting = [f"{watch.kind} ({watch.last_error})" for watch in source.watches() if not watch.synced]
        problem = f"{', '.join(waiting)} could not be read from {client.server} within {_READ_S:.0f} s"
        raise CtlError(f"{problem}. It takes the right to list and watch them in the whole cluster", code=NOT_DONE) from error
    finally:
        await source.close()
    return _translated(Objects(changes.put.values(), changes.problems), f"objects of {client.server}")


def _translated(objects: Objects, origin: str) -> Known:
    store = Store(objects.resources)
    in_cluster = TranslateOptions(listeners="gateway-ports", gateway_addresses=(_ANYWHERE,))
    translation = translate(store, in_cluster if store.shadows else TranslateOptions())
    specs = translation.specs
    for cluster, names in translation.names.items():  # nobody is looked up; a name in an address's place says enough
        specs.endpoints[cluster] += resolved(names, {one.name: (one.name,) for one in names})
    addresses = {key: pod.addresses for key, pod in store.pods.items()}
    refused = len(objects.problems)
    notes = (f"{refused} objects are refused and left out; `acmgctl analyze` says which and why",) if refused else ()
    return Known(specs, origin, addresses, notes)


# Gateways.


async def _ask(gateway: str, page: str) -> bytes:
    """Ask an admin server.

    Raises:
        CtlError: it does not answer, or not with 200.
    """
    url = gateway if "://" in gateway else f"http://{gateway}"
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url.rstrip("/") + page) as response:
            data = await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or "it does not answer in time"
        hint = f"`kubectl port-forward -n {NAMESPACE} POD {ADMIN_PORT}` leads to that of a pod"
        raise CtlError(f"no admin server at {gateway}: {reason}. {hint}", code=NOT_DONE) from error
    if status == 200:
        return data
    raise CtlError(_refusal(gateway, status, data), code=NOT_DONE)


def _refusal(gateway: str, status: int, data: bytes) -> str:
    try:
        body: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return str(body["error"])
    hint = "is it the admin server, and of this release? Its health server does not show the configuration"
    return f"{gateway} answers with {status}; {hint}"


async def _ask_any(client: KubeClient, page: str) -> tuple[bytes, str] | None:
    """Ask a ready gateway of the cluster through the API server; None if none can be asked."""
    try:
        pods = await list_all(client, PODS.path(NAMESPACE), labelSelector=f"{OURS},app.kubernetes.io/component=gateway")
    except ApiError as error:
        if error.status == 403:
            return None
        raise
    for name in sorted(_name(pod) for pod in pods if is_ready(pod)):
        path = PODS.path(NAMESPACE, f"{name}:{ADMIN_PORT}", "proxy") + page
        try:
            return await client.read("GET", path, timeout_s=_PROXY_TIMEOUT_S), f"gateway {name}"
        except ApiError:  # refused, or the admin server is on loopback: so it will be at the others
            return None
    return None


def _name(pod: Object) -> str:
    name: str = pod["metadata"]["name"]
    return name
