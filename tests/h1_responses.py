# SPDX-License-Identifier: Apache-2.0
"""Gives the gateway raw answers and judges what its client gets: `python -m tests.h1_responses FILE [--only PREFIX]`.

FILE is a list of {id, raw (base64), expect: accept | reject}. A scripted upstream answers a GET with exactly those bytes, once
keeping its connection open and once closing it. The strict model says what the bytes are:

    accept, whole       the client gets that status and that body as a whole
    accept, unfinished  the client must see that something is missing
    accept, malformed   others may repair it; the gateway refuses, and the case is listed with the reason
    reject              never relayed as if whole: 502, or a connection that visibly breaks off

Prints a line per problem and `N passed, M failed`; exits 1 when a case failed.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.interop.gateway import Gateway
from tests.interop.upstream import Upstream
from tests.strict_http import Malformed, Message, Unfinished, read_final_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.interop.upstream import Address, Exchange

__all__ = ["Case", "Verdict", "judge", "load", "main", "run"]

_PATIENCE_S = 10.0
"""For an answer that must come. The gateway answers on loopback within milliseconds, but a machine may be busy."""
_QUIET_S = 1.5
"""For an answer that need not come: an upstream that stays open may have more to say."""
_AT_ONCE = 8
_STATUS_BAD_GATEWAY = 502


class Case(NamedTuple):
    """Raw bytes and whether a proxy should pass them on."""

    id: str
    raw: bytes
    expect: str


class Verdict(NamedTuple):
    """What came of a case: `problem` if it failed, `refused` if an acceptable answer was not passed on, for that reason."""

    case: Case
    problem: str = ""
    refused: str = ""


class Got(NamedTuple):
    """What the client got: the answer if it was whole, the bytes, and whether the connection had ended."""

    answer: Message | None
    data: bytes
    ended: bool


def load(file: Path) -> list[Case]:
    """Read a file of cases.

    Raises:
        ValueError: it is none.
    """
    cases = []
    for entry in json.loads(file.read_text(encoding="utf-8")):
        if entry["expect"] not in ("accept", "reject"):
            raise ValueError(f"{entry['id']}: expect must be accept or reject")
        cases.append(Case(entry["id"], base64.b64decode(entry["raw"], validate=True), entry["expect"]))
    return cases


def judge(case: Case, got: Got, *, closes: bool) -> Verdict:
    """Compare what the client got with what the upstream's bytes are.

    Args:
        case: what the upstream sent.
        got: what the client got.
        closes: the upstream closed its connection behind the bytes.
    """
    relayed = got.answer if got.answer is not None and not _is_local(got.answer) else None
    way = "closing" if closes else "staying open"
    if case.expect == "reject":
        return Verdict(case, f"{way}: relayed as if whole: {_show(relayed)}" if relayed is not None else "")
    try:
        wanted = read_final_response(case.raw, closed=closes)
    except Malformed as error:
        if relayed is not None:
            return Verdict(case, f"{way}: relayed as if whole, but malformed ({error}): {_show(relayed)}")
        return Verdict(case, refused=str(error))
    except Unfinished:
        if relayed is not None:
            return Verdict(case, f"{way}: relayed as if whole, but unfinished: {_show(relayed)}")
        return Verdict(case, refused="unfinished when the connection ends" if closes else "")
    if relayed is None:
        return Verdict(case, f"{way}: not relayed: {_show(got.answer) if got.answer else got.data[:80]!r}")
    if (relayed.status, relayed.body) != (wanted.status, wanted.body):
        return Verdict(case, f"{way}: changed: {_show(relayed)} for {_show(wanted)}")
    return Verdict(case)


def run(cases: Sequence[Case]) -> list[Verdict]:
    """Run each case in both ways and return one verdict per case."""
    scripts = {f"/{number}/{way}": (case, way) for number, case in enumerate(cases) for way in ("close", "open")}
    with tempfile.TemporaryDirectory(prefix="h1-") as directory, Upstream() as upstream:
        over = threading.Event()
        for path, (case, way) in scripts.items():
            upstream.on(path, _script(case.raw, over, closes=way == "close"))
        gateway = Gateway(Path(directory))
        service = gateway.add_service("h1", {"v1": [upstream]})
        try:
            gateway.start()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                answers = list(pool.map(lambda path: _ask(service.address, path, _patience_s(*scripts[path])), scripts))
            assert gateway.is_running, f"the gateway ended\n{gateway.log}"
        finally:
            over.set()
            gateway.stop()
    verdicts = [judge(case, got, closes=way == "close") for (case, way), got in zip(scripts.values(), answers, strict=True)]
    return [
        max(pair, key=lambda verdict: (verdict.problem, verdict.refused))
        for pair in zip(verdicts[::2], verdicts[1::2], strict=True)
    ]


def _script(raw: bytes, over: threading.Event, *, closes: bool) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.keep_alive = False
        exchange.send(raw)
        if not closes:
            over.wait(_PATIENCE_S)

    return answer


def _patience_s(case: Case, way: str) -> float:
    with suppress(Malformed, Unfinished):
        read_final_response(case.raw, closed=False)
        return _PATIENCE_S
    return _PATIENCE_S if way == "close" else _QUIET_S


def _ask(address: Address, path: str, patience_s: float) -> Got:
    """Send a GET and read until the answer is whole, the connection ends, or nothing more comes."""
    data = b""
    with socket.create_connection(address, patience_s) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: h1.example\r\n\r\n".encode())
        while True:
            try:
                piece = sock.recv(65536)
            except TimeoutError:
                return Got(None, data, ended=False)
            except ConnectionResetError:
                return Got(None, data, ended=True)
            data += piece
            with suppress(Unfinished):
                return Got(read_final_response(data, closed=not piece), data, ended=not piece)
            if not piece:
                return Got(None, data, ended=True)


def _is_local(answer: Message) -> bool:
    """Whether the gateway gave it in the upstream's place."""
    return answer.status >= _STATUS_BAD_GATEWAY and (b"server", b"acmgproxy") in answer.fields


def _show(answer: Message | None) -> str:
    return f"{answer.status} {answer.body[:60]!r}" if answer is not None else "nothing"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.h1_responses", description="Judge how raw answers are relayed.")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--only", default="", metavar="PREFIX", help="only cases whose id begins so")
    options = parser.parse_args()
    if not options.cases.is_file():
        parser.error(f"no such file: {options.cases}")
    verdicts = run([case for case in load(options.cases) if case.id.startswith(options.only)])
    failed = [verdict for verdict in verdicts if verdict.problem]
    for verdict in verdicts:
        if verdict.refused:
            print(f"{verdict.case.id}: acceptable, refused: {verdict.refused}")
    for verdict in failed:
        print(f"{verdict.case.id}: {verdict.problem}")
    print(f"{len(verdicts) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
