# SPDX-License-Identifier: Apache-2.0
"""Children are started, killed and cleaned up; one that fails is explained by its own words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from acmgproxy.demo import processes
from acmgproxy.demo.processes import Children, ProcessError, wait_until

if TYPE_CHECKING:
    from pathlib import Path

SERVE = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


async def _true() -> bool:
    return True


async def _false() -> bool:
    return False


async def test_children_are_stopped_when_the_block_ends(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        first = await children.start("first", sys.executable, "-c", SERVE)
        second = await children.start("second", sys.executable, "-c", SERVE)
        await second.kill()
        assert repr(second) == f"<Child second pid={second.pid} returncode=-9>"
    assert not first.is_running
    assert repr(first) == f"<Child first pid={first.pid} returncode=-15>"


async def test_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 0.05)
    async with Children(tmp_path) as children:
        child = await children.start("stubborn", sys.executable, "-c", STUBBORN)

        async def is_up() -> bool:
            return child.log_tail() == "up"

        await wait_until(is_up, child=child, what="up", timeout_s=30)
    assert "returncode=-9" in repr(child)


async def test_waiting_ends_at_once_when_the_condition_holds(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start("child", sys.executable, "-c", SERVE)
        await wait_until(_true, child=child, what="ready", timeout_s=30)


async def test_waiting_for_a_child_that_ended_tells_its_last_words(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start("child", sys.executable, "-c", "import sys; sys.exit('port busy')")
        with pytest.raises(ProcessError, match="child ended with code 1\nport busy"):
            await wait_until(_false, child=child, what="ready", timeout_s=30)


async def test_waiting_too_long_says_for_what(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = await children.start("child", sys.executable, "-c", SERVE)
        with pytest.raises(ProcessError, match=r"child was not ready after 0\.05 s"):
            await wait_until(_false, child=child, what="ready", timeout_s=0.05)


async def test_second_life_continues_the_log(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        for word in ("first", "second"):
            child = await children.start("child", sys.executable, "-c", f"print('{word}')")
            with pytest.raises(ProcessError, match="code 0"):
                await wait_until(_false, child=child, what="ready", timeout_s=30)
            await child.stop()  # harmless when it has ended
    assert child.log_tail() == "first\nsecond"
