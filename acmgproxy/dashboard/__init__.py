# SPDX-License-Identifier: Apache-2.0
"""The dashboard: one page that shows a gateway's overview, as files of this package.

    index.html    what is there before any data is
    style.css     light and dark, wide and narrow
    theme.js      light or dark, before anything is drawn
    *.js          modules: main (asks, switches between views), views and explain (data to elements), parts (charts, figures)

There is no build step, and nothing comes from elsewhere, so that it works in a cluster without a way out. The page trusts no
text: names come from users' objects, so elements are made by calls and text is set as text, never as markup; the policy sent
with it (acmgproxy.io.admin_overview) would not let anything else run either.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files
from typing import NamedTuple

__all__ = ["ASSETS", "PAGE", "Asset"]

PAGE = "/dashboard"

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("index.html", "style.css", "theme.js", "main.js", "views.js", "explain.js", "parts.js", "icon.svg")


class Asset(NamedTuple):
    """A file as it is served."""

    body: bytes
    content_type: str
    charset: str
    etag: str


def _load(name: str) -> Asset:
    body = (files(__name__) / name).read_bytes()
    return Asset(body, _TYPES[name.rpartition(".")[2]], "utf-8", blake2b(body, digest_size=12).hexdigest())


ASSETS = {f"{PAGE}/{name}": _load(name) for name in _FILES}
"""By path."""
