# SPDX-License-Identifier: Apache-2.0
"""A client without a server: what a test says is there, and what was asked of it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

from discovery.kube import ApiError, KubeClient

__all__ = ["StubClient"]

Answer = Any


class StubClient:
    """Answers by (method, path); an answer may be an exception. The last of several answers is repeated."""

    server = "https://stub"

    def __init__(self, answers: dict[tuple[str, str], list[Answer]]) -> None:
        self._answers = answers
        self.asked: dict[tuple[str, str], list[Any]] = defaultdict(list)

    @property
    def client(self) -> KubeClient:
        """Itself, in the place of the real one."""
        return cast("KubeClient", self)

    async def request(self, method: str, path: str, *, body: Any = None, **_options: Any) -> Any:
        self.asked[method, path].append(body)
        answers = self._answers.get((method, path), [ApiError(404, "NotFound", f"{path} not found")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(body) if callable(answer) else answer

    async def get(self, path: str, **query: Any) -> Any:
        following = query.get("continue")
        return await self.request("GET", f"{path}?continue={following}" if following else path)

    async def read(self, method: str, path: str, **options: Any) -> Any:
        return await self.request(method, path, **options)

    async def create(self, path: str, body: Any) -> Any:
        return await self.request("POST", path, body=body)

    async def replace(self, path: str, body: Any) -> Any:
        return await self.request("PUT", path, body=body)

    async def apply(self, path: str, body: Any, *, field_manager: str, dry_run: bool) -> Any:
        assert field_manager == "acmgctl"
        return await self.request("DRY" if dry_run else "APPLY", path, body=body)

    async def close(self) -> None:
        self.asked["CLOSE", ""].append(None)
