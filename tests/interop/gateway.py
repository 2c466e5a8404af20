# SPDX-License-Identifier: Apache-2.0
"""The gateway as users run it: a real process on a directory of YAML files, for the interop tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.interop.upstream import Address, Upstream, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Gateway", "Service", "peak_rss_bytes", "reset_peak_rss", "wait_for"]

_PROJECT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 30.0
_POLL_S = 0.02


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = _DEADLINE_S) -> None:
    """Wait until `condition()` is true."""
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        tick.wait(_POLL_S)


class Service:
    """A Service of the gateway under test: its name and where the gateway listens for it."""

    def __init__(self, name: str, namespace: str, address: Address) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address

    def __repr__(self) -> str:
        return f"<Service {self.namespace}/{self.name} {self.address[0]}:{self.address[1]}>"

    def url(self, path: str = "/") -> str:
        """Return the URL of `path`."""
        return f"http://{self.address[0]}:{self.address[1]}{path}"


class Gateway:
    """One gateway and its configuration directory.

    Add Services and other objects, `start`, change objects at any time, `stop`.

    Attributes:
        config: the directory of YAML files.
        events: every JSON line of its log so far.
        admin: base URL of the admin server, once started.
        program: the Python module that is run.
    """

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config"
        self.config.mkdir()
        self.stdout = directory / "stdout"
        self.admin = ""
        self.program = "acmgproxy"
        self.events: list[dict[str, Any]] = []
        self._log: list[str] = []
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._abandoned: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def __repr__(self) -> str:
        return f"<Gateway {self.config} admin={self.admin} running={self.is_running}>"

    # --- configuration ----------------------------------------------------------------------------------------------------

    def add_service(
        self,
        name: str,
        upstreams: Mapping[str, Sequence[Upstream]],
        *,
        namespace: str = "default",
        address: Address | None = None,
    ) -> Service:
        """Add a Service on a loopback clusterIP of its own, or on `address`.

        `upstreams` are the pods behind it by their label `version`; each gets a Pod, and an EndpointSlice for its port.
        """
        host, port = address or free_address()
        meta = {"name": name, "namespace": namespace}
        ports = [{"name": "http", "port": port}]
        spec = {"clusterIP": host, "selector": {"app": name}, "ports": ports}
        self.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
        for version, members in upstreams.items():
            for number, upstream in enumerate(members):
                self.set_endpoint(name, version, number, upstream, namespace=namespace)
        return Service(name, namespace, (host, port))

    def set_endpoint(self, service: str, version: str, number: int, upstream: Upstream, *, namespace: str = "default") -> None:
        """Add or replace a pod of a Service and the EndpointSlice that names it."""
        pod = f"{service}-{version}-{number}"
        meta: dict[str, Any] = {"name": pod, "namespace": namespace, "uid": f"{pod}-{upstream.address[0]}"}
        host, port = upstream.address
        self.apply({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta | {"labels": {"app": service, "version": version}},
            "status": {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]},
        })  # fmt: skip
        self.apply({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": meta | {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [host],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace, "uid": meta["uid"]},
            }],
        })  # fmt: skip

    def add_caller(self, name: str, host: str, *, namespace: str = "default", labels: Mapping[str, str] | None = None) -> None:
        """Add a Pod that calls from the loopback address `host`."""
        meta = {"name": name, "namespace": namespace, "uid": name, "labels": dict(labels or {"app": name})}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": "Running", "podIP": host}})

    def apply(self, resource: Mapping[str, Any]) -> Path:
        """Write one object to a file of its own, replacing the object of that name."""
        meta = resource["metadata"]
        name = f"{resource['kind']}-{meta.get('namespace', 'default')}-{meta['name']}.yaml".lower()
        return self.write(name, yaml.dump(dict(resource)))

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> None:
        """Remove the file of an object."""
        (self.config / f"{kind}-{namespace}-{name}.yaml".lower()).unlink()

    def write(self, name: str, text: str) -> Path:
        """Write a configuration file in one step, as editors and kubelets do."""
        path = self.config / name
        draft = self.config / f".{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
        return path

    # --- life -------------------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, workers: int = 1) -> None:
        """Start it and wait until it is ready. `arguments` come last on the command line."""
        self.launch("--config", str(self.config), "--shared-port", "0", *arguments, workers=workers)
        self.wait_ready()

    def launch(self, *arguments: str, workers: int = 1, env: Mapping[str, str] | None = None) -> None:
        """Start it on whatever `arguments` say; do not wait."""
        argv = [sys.executable, "-m", self.program, "run", "--workers", str(workers), "--admin", "127.0.0.1:0", *arguments]
        environment = {**os.environ, **(env or {})}
        with self.stdout.open("wb") as stdout:
            self._process = subprocess.Popen(
                argv, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=_PROJECT, env=environment
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="gateway log", daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until it serves."""
        self.admin = str(self.wait_event("ready")["admin"])

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it with SIGTERM and require exit code 0. Harmless when not running."""
        for gone, reader in self._abandoned:
            reader.join(_DEADLINE_S)
            assert gone.stderr is not None
            gone.stderr.close()
        self._abandoned.clear()
        if self._process is None or self._reader is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            code = process.wait(_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway did not end on SIGTERM\n{self.log}") from None
        finally:
            self._reader.join(_DEADLINE_S)
            assert process.stderr is not None
            process.stderr.close()
        assert code == 0, f"the gateway ended with {code}\n{self.log}"

    def abandon(self) -> None:
        """Forget a supervisor that was killed; whoever still holds its standard error may go on writing."""
        assert self._process is not None, "not started"
        assert self._reader is not None
        self._process.wait(_DEADLINE_S)
        self._abandoned.append((self._process, self._reader))
        self._process = None
        with self._changed:
            self.events.clear()

    def wait_end(self) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self._process is not None, "not started"
        return self._process.wait(_DEADLINE_S)

    def kill(self, pid: int) -> None:
        """Send SIGKILL to a process of it."""
        os.kill(pid, signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        """Whether the supervisor process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None, "not started"
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of the live workers."""
        pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
        return sorted(pid for pid in pids if _parent(pid) == self.pid and b".worker\0" in _command(pid))

    # --- what it says -----------------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """Everything it wrote to standard error so far."""
        with self._changed:
            return "".join(self._log)

    def wait_event(self, event: str, *, after: int = 0, timeout_s: float = _DEADLINE_S, **fields: object) -> dict[str, Any]:
        """Wait for the first log line with this `event` and these fields, from `events[after]` on, and return it."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": event, **fields}
            return next((line for line in self.events[after:] if wanted.items() <= line.items()), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or not self.is_running, timeout_s)
            line = found()
            assert line is not None, f"no event {event!r} {fields} (running: {self.is_running})\n{''.join(self._log)}"
            return line

    def get(self, path: str) -> str:
        """Return what the admin server answers to GET `path`."""
        with urllib.request.urlopen(self.admin + path, timeout=_DEADLINE_S) as answer:
            body: bytes = answer.read()
        return body.decode()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for text in process.stderr:
            with self._changed:
                self._log.append(text)
                if text.startswith("{"):
                    self.events.append(json.loads(text))
                self._changed.notify_all()
        process.wait()
        with self._changed:
            self._changed.notify_all()


def reset_peak_rss(pid: int) -> int:
    """Forget a process's peak memory and return what it holds now, in bytes (man 5 proc: clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return peak_rss_bytes(pid)


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory a process held since `reset_peak_rss`, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    msg = f"no VmHWM of process {pid}"
    raise ProcessLookupError(msg)


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])  # after the command name, which may hold anything


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
