# SPDX-License-Identifier: Apache-2.0
"""Reads the text of one value; each reader refuses what is none with what it expected (ValueError)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import re2

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Toleration", "choice", "cpu", "flag", "hub", "labels", "memory", "number", "tag", "tolerations", "workers", "written"]

_CPU = re2.compile(r"[0-9]+(\.[0-9]{1,3}|m)?")
_MEMORY = re2.compile(r"[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?")
_TAG = re2.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HUB = re2.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_LABEL_KEY = re2.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re2.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")

Effect: TypeAlias = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

MAX_WORKERS = 1024
"""As for `acmgproxy run --workers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint that gateways put up with. Without a value, any value; without an effect, any effect."""

    key: str
    value: str = ""
    effect: Effect | Literal[""] = ""

    def __str__(self) -> str:
        """Return it as it is given on the command line."""
        return f"{self.key}{f'={self.value}' if self.value else ''}{f':{self.effect}' if self.effect else ''}"


def written(value: object) -> str:
    """Return a value as it would be given."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{name}={text}" for name, text in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def choice(*choices: str) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if text not in choices:
            raise ValueError(f"expected {', '.join(choices[:-1])} or {choices[-1]}, got {text!r}")
        return text

    return parse


def number(low: int, high: int) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise ValueError(f"expected a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def _matching(pattern: Any, expected: str, *, may_be_empty: bool) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if not (pattern.fullmatch(text) or (may_be_empty and not text)):
            raise ValueError(f"expected {expected}, got {text!r}")
        return text

    return parse


def flag(text: str) -> object:
    return choice("true", "false")(text) == "true"


def labels(text: str) -> object:
    labels: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        key, equals, value = item.partition("=")
        if not (equals and _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise ValueError(f"expected labels as in acmg.io/gateway=true,disk=fast, got {item!r}")
        labels[key] = value
    return labels


def tolerations(text: str) -> object:
    return tuple(_toleration(item) for item in filter(None, (item.strip() for item in text.split(","))))


def _toleration(item: str) -> Toleration:
    taint, _, effect = item.partition(":")
    key, _, value = taint.partition("=")
    if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value) and effect in {"", *get_args(Effect)}):
        raise ValueError(f"expected taints as in acmg.io/gateway=true:NoSchedule,dedicated, got {item!r}")
    return Toleration(key=key, value=value, effect=cast("Any", effect))


def workers(text: str) -> object:
    return 0 if text == "auto" else number(0, MAX_WORKERS)(text)


cpu = _matching(_CPU, "processors such as 2 or 500m", may_be_empty=True)
memory = _matching(_MEMORY, "memory such as 256Mi or 2Gi", may_be_empty=True)
hub = _matching(_HUB, "a registry and path such as registry.example.com/mesh", may_be_empty=True)
tag = _matching(_TAG, "a tag such as 0.1.0", may_be_empty=False)
