# SPDX-License-Identifier: Apache-2.0
"""Answers to "may I?" (SelfSubjectAccessReview). Everybody may do everything, but for what a test denies.

Only the question is answered: a request for what is denied is let through, unless `faults` say otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["PATH", "Denied", "review"]

PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Denied(NamedTuple):
    """A verb on a resource that is denied; an empty field stands for any."""

    verb: str = ""
    resource: str = ""
    namespace: str = ""


def review(body: dict[str, Any], denied: set[Denied]) -> dict[str, Any]:
    """Return the review with its answer."""
    asked = body["spec"]["resourceAttributes"]
    is_denied = any(all(not value or asked.get(field, "") == value for field, value in one._asdict().items()) for one in denied)
    status = {"allowed": not is_denied, "reason": "denied by the test" if is_denied else ""}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, **body, "status": status}
