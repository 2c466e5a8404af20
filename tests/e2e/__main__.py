# SPDX-License-Identifier: Apache-2.0
"""Run the end-to-end tests in a world of their own: `python -m tests.e2e [PYTEST OPTION ...]`, as root.

The tests run in fresh namespaces of network, mounts and processes. Their bridges, addresses and rules exist for them alone, so
any number of runs may be under way at once; and as the kernel ends every process of the namespace together with its first, a run
leaves nothing behind, even when it is killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

__all__ = ["ISOLATED", "is_isolated", "main"]

ISOLATED = "ACMG_E2E_NETWORK"
"""Names the network namespace made for the tests, by its inode number."""

TIMEOUT_S = 300
"""Of one test; the longest takes a minute, of which it mostly waits for deadlines of the product."""

_TOOLS = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux", "nsenter": "util-linux", "mount": "mount"}
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def is_isolated() -> bool:
    """Tell whether this process is in the namespaces that `main` makes."""
    return os.environ.get(ISOLATED) == str(Path("/proc/self/ns/net").stat().st_ino)


def _fail(reason: str) -> NoReturn:
    sys.exit(f"end-to-end tests: {reason}")


def _check() -> None:
    if not sys.platform.startswith("linux"):
        _fail("they need Linux, for network namespaces")
    missing = {package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    if missing:
        _fail(f"missing tools; on Debian or Ubuntu: apt install {' '.join(sorted(missing))}")
    if os.geteuid() != 0:
        _fail("they make network namespaces and need root; run: sudo make e2e")
    trial = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "nft", "list", "ruleset"], capture_output=True, text=True, check=False
    )
    if trial.returncode:
        _fail(
            f"this root may not make namespaces or use nftables ({trial.stderr.strip()}); "
            "in a container it needs the capabilities SYS_ADMIN and NET_ADMIN"
        )


def _enter(arguments: list[str]) -> NoReturn:
    command = [sys.executable, "-m", "tests.e2e", "--inside", *arguments]
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    os.execvp(unshare[0], [*unshare, *command])


def _inside(arguments: list[str]) -> NoReturn:
    # `ip netns` keeps its names there, and they must not be the machine's.
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "namespaces", "/run/netns"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ[ISOLATED] = str(Path("/proc/self/ns/net").stat().st_ino)
    # Not an exec: the first process of the namespace must reap what orphans leave, and pytest would not.
    paths = [] if any(argument.startswith("tests/e2e") for argument in arguments) else ["tests/e2e"]
    options = ["-m", "e2e", "-p", "no:cacheprovider", "--timeout", str(TIMEOUT_S)]
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *paths, *options, *arguments])
    while True:
        try:
            pid, status = os.wait()
        except KeyboardInterrupt:
            continue  # the terminal has told pytest as well, which ends in order
        if pid == pytest.pid:
            # Not sys.exit: the end of this process is the end of all others.
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main() -> NoReturn:
    """Run the tests."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--inside"]:
        _inside(arguments[1:])
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    _check()
    _enter(arguments)


if __name__ == "__main__":
    main()
