# SPDX-License-Identifier: Apache-2.0
"""Checks shared by the kinds people write: each says what is wrong with a value, None or nothing when it is fine.

Values that end up in a request or response head are checked here, once, so that the data plane can send them as they are:
a line break in one would be a header of the attacker's choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import re2

from routing.names import is_dns_label
from routing.regex import Pattern, RegexError, Substitution
from routing.resources._base import Duration, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from routing.resources.virtual_service import StringMatch

__all__ = [
    "authority_problem",
    "duration_problem",
    "export_problems",
    "header_name_problem",
    "header_value_problem",
    "path_problem",
    "regex_problem",
    "string_match_problems",
]

_TOKEN = re2.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: no control characters save the tab. Anything beyond ASCII is sent as UTF-8.
_FIELD_VALUE = re2.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_PATH = re2.compile(r"/[!-\"$-~]*")
_AUTHORITY = re2.compile(r"[!$&'()*+,\-.0-9:;=A-Z\[\]_a-z~%]+")


def header_name_problem(name: str) -> str | None:
    """Judge a header name (RFC 9110 section 5.1)."""
    return None if _TOKEN.fullmatch(name) else f"{name!r} is not a header name"


def header_value_problem(value: str) -> str | None:
    """Judge a header value."""
    return None if _FIELD_VALUE.fullmatch(value) else "must not contain control characters"


def path_problem(path: str) -> str | None:
    """Judge a path that is put into a request line or a Location."""
    if not path.startswith("/"):
        return "must begin with a slash"
    return None if _PATH.fullmatch(path) else "must be printable ASCII without blanks and `#`; percent-encode the rest"


def authority_problem(authority: str) -> str | None:
    """Judge a value for Host: a name or address, perhaps with a port (RFC 3986 section 3.2)."""
    return None if _AUTHORITY.fullmatch(authority) else f"{authority!r} is not a host"


def duration_problem(duration: Duration, *, zero: bool = False) -> str | None:
    """Judge a duration; `zero` tells whether 0s is allowed, as "off"."""
    if duration >= 0.001 or (zero and not duration):
        return None
    return "must be at least 1ms" + (", or 0s for none" if zero else "")


def regex_problem(pattern: str, rewrite: str | None = None) -> str | None:
    """Judge a regular expression, with `rewrite` as what to put in place of its matches."""
    if not pattern:
        return "must not be empty"
    try:
        if rewrite is None:
            Pattern(pattern)
        else:
            Substitution(pattern, rewrite)
    except RegexError as exc:
        return str(exc)
    return None


def string_match_problems(match: StringMatch | None, field: str, *, empty_prefix: bool = False) -> Iterator[Problem]:
    """Judge a condition on a string; `empty_prefix` tells whether the prefix may be empty."""
    if match is None:
        return
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    if len(given) > 1:
        yield Problem(field, f"{' and '.join(given)} exclude each other")
    if match.prefix == "" and not empty_prefix:
        yield Problem(f"{field}.prefix", "must not be empty")
    if match.regex is not None and (reason := regex_problem(match.regex)):
        yield Problem(f"{field}.regex", reason)


def export_problems(export_to: tuple[str, ...], namespace: str, *, may_hide: bool = False) -> Iterator[Problem]:
    """Judge `exportTo` of an object in `namespace`; `may_hide` tells whether `~`, visible to nobody, is allowed."""
    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        target = namespace if entry == "." else entry
        if target in seen:
            yield Problem(f"spec.exportTo[{index}]", f"{entry!r} is given twice")
        if target != "*" and not (may_hide and target == "~") and not is_dns_label(target):
            yield Problem(f"spec.exportTo[{index}]", f"{entry!r} is neither `.`, `*` nor a namespace")
        seen.add(target)
    if "*" in seen and len(seen) > 1:
        yield Problem("spec.exportTo", "`*` makes the object public; the other entries contradict it")
    elif "~" in seen and len(seen) > 1:
        yield Problem("spec.exportTo", "`~` hides the object from all; the other entries contradict it")
