# SPDX-License-Identifier: Apache-2.0
"""docs/istio.md has every field and every code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest

from routing.diagnostics import CATALOGUE
from routing.resources import DestinationRule, ServiceEntry, Telemetry, VirtualService
from routing.resources._base import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "istio.md").read_text(encoding="utf-8")


def _parts(annotation: Any) -> Iterator[type[Fields]]:
    """Yield the parts of resources that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts(argument)


def _fields(struct: type[Fields]) -> Iterator[str]:
    yield from struct.unsupported
    for field in msgspec.structs.fields(struct):
        yield field.encode_name
        for part in _parts(field.type):
            yield from _fields(part)


@pytest.mark.parametrize("kind", [VirtualService, DestinationRule, ServiceEntry, Telemetry])
def test_every_field_is_in_the_tables(kind: type[Fields]) -> None:
    spec = next(field.type for field in msgspec.structs.fields(kind) if field.name == "spec")
    section = TEXT.split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
    missing = {name for name in _fields(spec) if name not in section}
    # Parts of string matches, ports, shares and cookie attributes go by the field they are in.
    assert missing <= {"exact", "prefix", "regex", "number", "value"}


def test_every_code_is_in_the_table() -> None:
    assert {line.split("`")[1] for line in TEXT.split("## Findings")[1].splitlines() if line.startswith("| `")} == set(CATALOGUE)
