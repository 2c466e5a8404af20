# SPDX-License-Identifier: Apache-2.0
"""What one request asks: its query read, its body decoded, and the line it leaves in the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from tests.kube.errors import ApiStatus, bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Query", "Request", "decode_body"]


@dataclass(slots=True)
class Request:
    """One line of the server's log; `status` is 0 while there is no answer, and when there never was one."""

    method: str
    path: str
    query: Mapping[str, str]
    user_agent: str
    status: int = 0

    @property
    def is_watch(self) -> bool:
        """Tell whether it asks for a watch."""
        return self.method == "GET" and self.query.get("watch") in {"1", "true", "True"}


class Query:
    """A query's parameters by type."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a parameter, empty when it is not there."""
        return self._values.get(name, "")

    def has(self, name: str) -> bool:
        """Tell whether a parameter is there, be it empty."""
        return name in self._values

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return self._values.get(name, "").lower() in {"1", "true", "t"}

    def number(self, name: str) -> int:
        """Return a number that is not negative, 0 when it is not there.

        Raises:
            ApiStatus: 400, it is no number.
        """
        text = self._values.get(name, "")
        if text and not text.isdecimal():
            raise bad_request(f'invalid {name}: strconv.ParseUint: parsing "{text}": invalid syntax')
        return int(text or 0)

    def dry_run(self) -> bool:
        """Tell whether nothing is to be stored.

        Raises:
            ApiStatus: 400, a value other than All.
        """
        value = self.text("dryRun")
        if value not in {"", "All"}:
            raise bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
        return value == "All"


def decode_body(body: bytes, content_type: str) -> Any:
    """Return a body's value, None for an empty one.

    Raises:
        ApiStatus: 400, it cannot be read; 415, its type is not spoken here.
    """
    if not body:
        return None
    try:
        if "yaml" in content_type:
            return yaml.load(body, yaml.CSafeLoader)
        if "json" in content_type or not content_type:
            return orjson.loads(body)
    except (yaml.YAMLError, orjson.JSONDecodeError) as error:
        raise bad_request(f"error decoding request body: {error}") from error
    raise ApiStatus(415, f"the body of the request was in an unknown format - {content_type}")
