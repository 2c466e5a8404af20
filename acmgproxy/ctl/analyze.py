# SPDX-License-Identifier: Apache-2.0
"""`acmgctl analyze`: the findings about a set of objects, in files or in a cluster, without a gateway.

It reads and translates exactly as a gateway would, and shows what that has to say. Objects that are refused have no last good
version here, so what refers to them is reported too.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from discovery.documents import parse
from discovery.files import FileSource
from routing.diagnostics import CATALOGUE
from routing.store import Store
from routing.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from acmgproxy.ctl.cluster import Where
    from discovery.kube import KubeClient
    from discovery.objects import SourceProblem
    from routing.diagnostics import Diagnostic
    from routing.resources import Resource

__all__ = ["Finding", "Objects", "analyze", "analyze_cluster", "read_objects", "run_analyze", "run_analyze_cluster"]

REFUSED = "IST0106"
UNREADABLE = "ACMG000"

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_ORDER = tuple(_STYLES)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is said about one object or file. `origin` is the file of an object that was refused."""

    code: str
    severity: str
    kind: str
    namespace: str
    name: str
    field: str
    message: str
    remedy: str
    origin: str = ""

    @property
    def where(self) -> str:
        """The object, or the file as far as no object can be told."""
        if not self.kind:
            return self.origin
        return f"{self.kind} {'/'.join(part for part in (self.namespace, self.name) if part)}"


class Objects(NamedTuple):
    """What was read: the objects, and what could not be."""

    resources: Iterable[Resource]
    problems: tuple[SourceProblem, ...]


def analyze(path: str) -> list[Finding]:
    """Return the findings about the objects at `path`, worst first.

    Args:
        path: A file, a directory, or `-` for standard input.

    Raises:
        OSError: There is nothing to be read.
    """
    return _findings(read_objects(path))


def _findings(objects: Objects) -> list[Finding]:
    diagnostics = translate(Store(objects.resources)).diagnostics
    findings = [*map(_of_problem, objects.problems), *map(_of_diagnostic, diagnostics)]
    return sorted(findings, key=lambda found: _ORDER.index(found.severity))


def read_objects(path: str) -> Objects:
    """Return the objects at `path`: a file, a directory, or `-` for standard input.

    Raises:
        OSError: There is nothing to be read.
    """
    if path == "-":
        return _parsed("standard input", sys.stdin.buffer.read())
    found = Path(path)
    if not found.is_dir():
        return _parsed(path, found.read_bytes())
    changes = FileSource(found).look()
    return Objects(changes.put.values(), changes.problems) if changes is not None else Objects((), ())


def _parsed(origin: str, data: bytes) -> Objects:
    contents = parse(origin, data)
    return Objects(contents.objects.values(), contents.problems)


def _of_problem(problem: SourceProblem) -> Finding:
    code = REFUSED if problem.kind else UNREADABLE
    severity, remedy = CATALOGUE[code]
    return Finding(
        code=code,
        severity=severity,
        kind=problem.kind,
        namespace=problem.namespace,
        name=problem.name,
        field=problem.field,
        message=problem.reason,
        remedy=remedy,
        origin=problem.origin,
    )


def _of_diagnostic(diagnostic: Diagnostic) -> Finding:
    return Finding(**msgspec.structs.asdict(diagnostic))


def run_analyze(path: str, *, as_json: bool) -> int:
    """Print the findings about the objects at `path`; return the exit code."""
    try:
        findings = analyze(path)
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return 1
    return _show(findings, as_json=as_json)


async def analyze_cluster(client: KubeClient) -> list[Finding]:
    """Return the findings about the objects of a cluster, worst first.

    Raises:
        ApiError: They cannot be read.
    """
    from discovery.kube import KubeSource  # noqa: PLC0415 - takes a second, and files need no cluster

    changes = await KubeSource(client).first()
    return _findings(Objects(changes.put.values(), changes.problems))


def run_analyze_cluster(where: Where, *, as_json: bool) -> int:
    """Print the findings about the objects of a cluster; return the exit code."""
    from acmgproxy.ctl.cluster import connected, run  # noqa: PLC0415 - takes a second, and files need no cluster

    async def command() -> int:
        async with connected(where) as client:
            return _show(await analyze_cluster(client), as_json=as_json)

    return run(command)


def _show(findings: Sequence[Finding], *, as_json: bool) -> int:
    if as_json:
        print(orjson.dumps(msgspec.to_builtins(findings), option=orjson.OPT_INDENT_2).decode())
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        for found in findings:
            print(_line(found))
    return 1 if any(found.severity == "error" for found in findings) else 0


def _line(found: Finding) -> str:
    field = f" {found.field}" if found.field else ""
    return f"{found.severity} {found.code} {found.where}{field}: {found.message}. {found.remedy}"


def _print_table(findings: Sequence[Finding]) -> None:
    console = Console()
    if findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title, options in (("CODE", {"no_wrap": True}), ("OBJECT", {}), ("FINDING", {"ratio": 1})):
            table.add_column(title, **_column(options))
        for found in findings:
            where = Text(found.where) + Text(f"\n{found.field}" if found.field else "", style="cyan")
            table.add_row(
                Text(found.code, style=_STYLES[found.severity]),
                where,
                Text(found.message) + Text(f"\n{found.remedy}", style="dim"),
            )
        console.print(table)
    count = Counter(found.severity for found in findings)
    console.print(Text(", ".join(f"{count[severity]} {severity}s" for severity in _ORDER) if findings else "Nothing found."))


def _column(options: dict[str, Any]) -> dict[str, Any]:
    return {"overflow": "fold", **options}
