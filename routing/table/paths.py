# SPDX-License-Identifier: Apache-2.0
"""Path rewrites: a function from path to path for each (rewrite, match entry) pair. The query is never touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from routing.regex import Substitution

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.specs import PathMatch, PathRewrite

__all__ = ["RewriteError", "compile_rewrite"]


class RewriteError(ValueError):
    """A replacement could not stand in a request line."""


def compile_rewrite(rewrite: PathRewrite, match: PathMatch | None) -> Callable[[bytes], bytes]:
    """Return the rewrite for paths that `match` let through.

    A result that does not begin with a slash gets one: an origin-form target has to (RFC 9112 section 3.2.1), and an empty one
    would make the request line ambiguous.

    Raises:
        RewriteError: the replacement has blanks or control characters.
        RegexError: the pattern or its replacement is not acceptable.
    """
    value = rewrite.value.encode()
    if any(byte <= 0x20 or byte == 0x7F for byte in value):
        raise RewriteError(f"path replacement {rewrite.value!r} has blanks or control characters")
    match rewrite.kind:
        case "prefix":
            return _prefix(value, match)
        case "segments":
            return _segments(value.rstrip(b"/"), match)
        case "full":
            return _constant(value)
        case "regex":
            return _regex(Substitution(rewrite.pattern, rewrite.value))
        case _:
            assert_never(rewrite.kind)


def _rooted(path: bytes) -> bytes:
    return path if path.startswith(b"/") else b"/" + path


def _constant(value: bytes) -> Callable[[bytes], bytes]:
    value = _rooted(value)
    return lambda path: value


def _prefix(value: bytes, match: PathMatch | None) -> Callable[[bytes], bytes]:
    """Replace what the entry's prefix matched, literally: no slash is added or taken away (SEMANTICS of VirtualService)."""
    if match is None:  # the same as prefix "/"; the asterisk of OPTIONS is no path
        return lambda path: _rooted(value + path[1:]) if path.startswith(b"/") else path
    if match.kind in {"exact", "regex"}:
        return _constant(value)
    length = len(match.value.rstrip("/").encode() if match.kind == "segments" else match.value.encode())
    return lambda path: _rooted(value + path[length:])


def _segments(value: bytes, match: PathMatch | None) -> Callable[[bytes], bytes]:
    """Replace the matched segments and repair slashes (HTTPRoute ReplacePrefixMatch, table in its API documentation)."""
    if match is not None and match.kind in {"exact", "regex"}:
        return _constant(value)
    length = len(match.value.rstrip("/").encode()) if match is not None else 0

    def replace(path: bytes) -> bytes:
        rest = path[length:]
        return _rooted(value + rest if rest.startswith(b"/") or not rest else value + b"/" + rest)

    return replace


def _regex(substitution: Substitution) -> Callable[[bytes], bytes]:
    return lambda path: _rooted(substitution.apply(path))
