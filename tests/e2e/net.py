# SPDX-License-Identifier: Apache-2.0
"""A cluster's network on one machine: hosts are network namespaces on one bridge, every pod with an address of its own.

Owns namespaces, links and addresses, and how programs are started inside. The tests' own namespace is the node of the control
plane: it holds the bridge and reaches every pod directly, as a node does. No address is used twice, so a late packet to a pod
that has gone never reaches another one.

Programs of pods run in a process namespace of their own too, as containers do: they are process 1 there, and when they end,
whatever they started ends with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTROL_PLANE", "Host", "Network", "Program", "run"]

CONTROL_PLANE = "10.244.0.1"
"""Address of the tests' own namespace."""

_BRIDGE = "pods"
_ROOT = Path(__file__).resolve().parents[2]
_END_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 30.0


def run(*command: str, text: str = "") -> str:
    """Run a tool to its end and return what it printed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}\n{text}"
    return done.stdout


class Network:
    """The bridge and all hosts on it. Use as a context manager."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self._numbers = 0

    def __repr__(self) -> str:
        return f"<Network {' '.join(map(repr, self.hosts.values()))}>"

    def __enter__(self) -> Network:
        lines = [
            f"link add {_BRIDGE} type bridge",
            f"addr add {CONTROL_PLANE}/16 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ]
        run("ip", "-batch", "-", text="\n".join(lines))
        return self

    def __exit__(self, *_error: object) -> None:
        for host in list(self.hosts.values()):
            self.remove(host)
        run("ip", "link", "delete", _BRIDGE)

    def publish(self, port: int) -> None:
        """Let hosts reach what listens on the loopback address here, at the control plane's address."""
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        rule = f"ip daddr {CONTROL_PLANE} tcp dport {port} dnat to 127.0.0.1:{port}"
        hooks = ("prerouting", "output")
        chains = "\n".join(f"chain {hook} {{ type nat hook {hook} priority -100; {rule}; }}" for hook in hooks)
        run("nft", "-f", "-", text=f"add table ip published\ndelete table ip published\ntable ip published {{\n{chains}\n}}")

    def add(self, name: str) -> Host:
        """Make a host."""
        assert name not in self.hosts, name
        self._numbers += 1
        number = self._numbers
        host = Host(name, f"10.244.{1 + number // 250}.{1 + number % 250}")
        link = f"veth{number}"
        run("ip", "netns", "add", name)
        outside = [f"link add {link} type veth peer name eth0 netns {name}", f"link set {link} master {_BRIDGE} up"]
        run("ip", "-batch", "-", text="\n".join(outside))
        inside = [
            "link set lo up",
            f"addr add {host.address}/16 dev eth0",
            "link set eth0 up",
            f"route add default via {CONTROL_PLANE}",
        ]
        run("ip", "-netns", name, "-batch", "-", text="\n".join(inside))
        self.hosts[name] = host
        return host

    def remove(self, host: Host) -> None:
        """Unmake a host; what still runs there is killed."""
        for program in host.programs:
            program.kill_now()
        del self.hosts[host.name]
        run("ip", "netns", "delete", host.name)


class Host:
    """One host: a name, an address, and the programs started on it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.programs: list[Program] = []

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    def nft(self, script: str) -> None:
        """Apply a script of packet rules, wholly or not at all."""
        run("nsenter", f"--net=/run/netns/{self.name}", "nft", "-f", "-", text=script)

    async def start(self, *command: str, log: Path, environment: Mapping[str, str] | None = None, piped: bool = False) -> Program:
        """Start a program here; `piped` leaves its standard input and output to the caller."""
        program = await Program.start(*command, log=log, host=self, environment=environment, piped=piped)
        self.programs.append(program)
        return program


class Program:
    """One running program; what it prints on standard error, and on standard output unless piped, is in `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, *, contained: bool) -> None:
        self._process = process
        self._contained = contained
        self.log = log

    def __repr__(self) -> str:
        return f"<Program {self.log.stem} pid={self._process.pid} returncode={self._process.returncode}>"

    @classmethod
    async def start(
        cls,
        *command: str,
        log: Path,
        host: Host | None = None,
        environment: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> Program:
        """Start a program, on the control plane's node unless a host is given."""
        inside: tuple[str, ...] = ()
        if host is not None:
            contain = ("unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
            inside = ("nsenter", f"--net=/run/netns/{host.name}", *contain)
        pipe = asyncio.subprocess.PIPE
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *inside,
                *command,
                stdin=pipe if piped else subprocess.DEVNULL,
                stdout=pipe if piped else output,
                stderr=output,
                start_new_session=True,
                cwd=_ROOT,
                env={**os.environ, **(environment or {})},
                limit=2**24,
            )
        return cls(process, log, contained=host is not None)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal, None while it runs."""
        return self._process.returncode

    async def ask(self, line: str) -> str:
        """Write a line to a piped program and return the line it answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            return (await self._process.stdout.readline()).decode()

    async def finish(self) -> str:
        """Close a piped program's standard input, and return what else it prints."""
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            output, _ = await self._process.communicate(b"")  # without input, it would stay open
        return output.decode()

    def terminate(self) -> None:
        """Send SIGTERM to the program itself."""
        for pid in self._own_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill_now(self) -> None:
        """End it and everything it started, at once."""
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def kill(self) -> None:
        """End it and everything it started, and wait until they are gone."""
        pids = self._own_pids()
        self.kill_now()
        await self._process.wait()
        async with asyncio.timeout(_END_TIMEOUT_S):
            while any(os.path.exists(f"/proc/{pid}") for pid in pids):  # noqa: ASYNC240 - procfs does not block
                await asyncio.sleep(0.01)

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await self._process.wait()

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _own_pids(self) -> list[int]:
        pid = self._process.pid
        if not self._contained:
            return [pid]
        # `unshare` waits for its only child, process 1 of the pod.
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []
