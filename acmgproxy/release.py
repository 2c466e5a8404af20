# SPDX-License-Identifier: Apache-2.0
"""The version of the installed package."""

from __future__ import annotations

from importlib import metadata

__all__ = ["release"]


def release() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("acmgproxy")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"
