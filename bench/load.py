# SPDX-License-Identifier: Apache-2.0
"""The load: what is asked of a peer (`Shape`), one burst of it by wrk, and what came of it (`Sample`).

wrk is a closed loop: each connection sends its next request when the answer is there, so requests/s and latency say the same
thing twice and neither is a latency promise at a given rate. Its histogram has a resolution of one microsecond and is read whole
(load.lua), so bursts of several rounds can be added up and percentiles taken exactly.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.daemon import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.net import Address

__all__ = ["BODY", "HEADERS", "PATH", "UPLOAD_PATH", "LoadError", "Sample", "Shape", "body_path", "burst", "wrk_version"]

PATH = "/hello"
UPLOAD_PATH = "/upload"
BODY = (
    b"Hello version: v1, instance: helloworld-v1-776f57d5f6-2bczj. "
    b"A plain answer of one hundred and thirty bytes to each request here.\n"
)
"""What the upstream answers."""

HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) helloworld-client/4.1",
    "Accept: application/json, text/plain, */*",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.7",
    "Cache-Control: no-cache",
    "Authorization: Bearer c29tZS1vcGFxdWUtdG9rZW4tb2YtcmVhbGlzdGljLWxlbmd0aA",
    "Cookie: session=5b3f0a2c9d; theme=dark; consent=1",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Tenant: shop-europe-west",
    "X-Client-Version: 2026.11.3",
)
"""The ten request headers, besides Host, of the shapes that have headers: names and lengths as services send them."""

_SCRIPT = Path(__file__).with_name("load.lua")
_STOP_TIMEOUT_S = 10.0


class LoadError(RuntimeError):
    """The load did not run, or not every request was answered by 2xx."""


def body_path(size: int) -> str:
    """Return the path at which the upstream answers with `size` bytes."""
    return f"/bytes/{size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of load.

    Args:
        connections: at a time.
        headers: request headers besides Host.
        distinct: no request has the head of another one, so nothing can be recognised.
        answer_bytes: size of the answer's body; 0 for the small one.
        upload_bytes: size of the request's body; 0 for GET.
        closes: every request has a connection of its own.
        hosts: Host of the requests in turn; empty for that of the address.
        path: what is asked for when neither size says it.
    """

    connections: int
    headers: int = 0
    distinct: bool = False
    answer_bytes: int = 0
    upload_bytes: int = 0
    closes: bool = False
    hosts: tuple[str, ...] = ()
    path: str = PATH

    def __str__(self) -> str:
        parts = [f"{self.connections} connections", f"{self.headers} headers"]
        parts += ["every head different"] if self.distinct else []
        parts += [f"answers of {self.answer_bytes:,} bytes"] if self.answer_bytes else []
        parts += [f"uploads of {self.upload_bytes:,} bytes"] if self.upload_bytes else []
        parts += ["a connection for each request"] if self.closes else []
        return ", ".join(parts)

    @property
    def target(self) -> str:
        """The path that is asked for."""
        if self.upload_bytes:
            return UPLOAD_PATH
        return body_path(self.answer_bytes) if self.answer_bytes else self.path


@dataclass(slots=True, kw_only=True)
class Sample:
    """What bursts of one shape on one peer gave; samples add up."""

    requests: int = 0
    duration_us: int = 0
    cpu_us: int = 0
    rss_bytes: int = 0
    latencies_us: Counter[int] = field(default_factory=Counter)

    def add(self, other: Sample) -> None:
        """Add `other`; of memory keep the larger."""
        self.requests += other.requests
        self.duration_us += other.duration_us
        self.cpu_us += other.cpu_us
        self.rss_bytes = max(self.rss_bytes, other.rss_bytes)
        self.latencies_us.update(other.latencies_us)

    def percentile_us(self, percent: float) -> int:
        """Return the latency that `percent` of the requests did not exceed."""
        rank = self.latencies_us.total() * percent / 100
        seen = 0
        for value in sorted(self.latencies_us):
            seen += self.latencies_us[value]
            if seen >= rank:
                return value
        return 0


def wrk_version() -> str:
    """Return wrk's version.

    Raises:
        LoadError: wrk is not installed.
    """
    if shutil.which("wrk") is None:
        msg = "wrk, the load generator, is not installed (apt-get install wrk)"
        raise LoadError(msg)
    return subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split(" [")[0]


def burst(address: Address, shape: Shape, *, seconds: float) -> Sample:
    """Load `address` with `shape` for `seconds`, on the CPUs that this process may use.

    wrk takes whole seconds only; it is given a minute and interrupted, on which it reports what it measured. Where it got no turn
    to ask anything on a busy machine, it is given more time.

    Raises:
        LoadError: wrk failed, or a request failed or was not answered by 2xx.
    """
    argv = ["wrk", "-t1", f"-c{shape.connections}", "-d60s", "-s", str(_SCRIPT)]
    for header in HEADERS[: shape.headers]:
        argv += ["-H", header]
    if shape.closes:
        argv += ["-H", "Connection: close"]
    argv.append(f"http://{address[0]}:{address[1]}{shape.target}")
    script = [f"host={host}" for host in shape.hosts]
    if shape.upload_bytes:
        script.append(f"upload={shape.upload_bytes}")
    if shape.distinct:
        argv += ["-H", "X-Request-Id: @@"]
        script.append("distinct=1")
    if script:
        argv += ["--", *script]
    for patience in (1, 4, 16):
        result = _result(_interrupted(argv, seconds * patience))
        if result["requests"] or any(result["errors"].values()):
            break
    return _sample(result, shape.answer_bytes or len(BODY))


def _interrupted(argv: Sequence[str], seconds: float) -> str:
    """Run a command for `seconds` and interrupt it; return what it printed."""
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
    )
    try:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=_STOP_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return output


def _result(output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith("JSON")]
    if not lines:
        msg = f"wrk gave no result: {output.strip()}"
        raise LoadError(msg)
    result: dict[str, Any] = json.loads(lines[0].removeprefix("JSON"))
    return result


def _sample(result: dict[str, Any], answer_bytes: int) -> Sample:
    errors = {kind: count for kind, count in result["errors"].items() if count}
    if errors or not result["requests"]:
        msg = f"{result['requests']} requests, errors {errors}"
        raise LoadError(msg)
    if result["bytes"] < result["requests"] * answer_bytes:  # wrk counts no 3xx as error
        msg = f"{result['requests']} requests, but only {result['bytes']} bytes of answers"
        raise LoadError(msg)
    return Sample(
        requests=result["requests"],
        duration_us=result["duration_us"],
        latencies_us=Counter(dict(zip(result["values"], result["counts"], strict=True))),
    )
