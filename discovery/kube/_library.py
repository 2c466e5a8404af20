# SPDX-License-Identifier: Apache-2.0
"""The parts of kubernetes-asyncio that are used: configuration, its loaders, and the HTTP session made from it.

The library's packages import every API and every model when they are first touched: 0.3 s and 66 MB, of which all but the 2 MB
of these three modules is never used here. So the modules are imported past their packages: while that goes on, two empty
packages stand in for the real ones, and whoever imports the whole library later gets it as if nothing had been. Should a
version of the library not allow that, the whole of it is imported, which is right as well, only dearer.

Nothing here is imported before somebody connects to a cluster.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["Library", "load"]

_PACKAGES = ("kubernetes_asyncio", "kubernetes_asyncio.client")


class Library(NamedTuple):
    """What is used of the library.

    Args:
        config: the module with the loaders.
        configuration: the class of a connection's settings.
        rest: the module that makes a session from them.
    """

    config: Any
    configuration: Any
    rest: Any


def load() -> Library:
    """Import what is needed."""
    if any(package in sys.modules for package in _PACKAGES):
        return _import()
    try:
        return _import_lean()
    except (ImportError, AttributeError, TypeError):  # laid out in another way
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGES[0]]:
            del sys.modules[name]
        return _import()


def _import() -> Library:
    config = importlib.import_module("kubernetes_asyncio.config")
    rest = importlib.import_module("kubernetes_asyncio.client.rest")
    return Library(config, importlib.import_module("kubernetes_asyncio.client.configuration").Configuration, rest)


def _import_lean() -> Library:
    search: list[str] | None = None
    try:
        for package in _PACKAGES:
            spec = PathFinder.find_spec(package, search)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(f"no package {package}")
            search = list(spec.submodule_search_locations)
            stand_in = ModuleType(package)
            stand_in.__path__ = search
            sys.modules[package] = stand_in
        client: Any = sys.modules[_PACKAGES[1]]
        client.Configuration = importlib.import_module("kubernetes_asyncio.client.configuration").Configuration
        client.ApiClient = None  # the loaders' return type; none of those used here returns one
        return _import()
    finally:
        for package in _PACKAGES:
            sys.modules.pop(package, None)
