# SPDX-License-Identifier: Apache-2.0
"""Facts about what a bug report keeps and what not."""

from __future__ import annotations

import orjson
import pytest

from acmgproxy.ctl.redaction import REDACTED, is_secret_name, redact, redact_log, redact_text

PLANTED = "hunter2"


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "X_API_KEY", "Set-Cookie", "accessToken", "db-password", "x-auth-request", "jwt"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["authority", "end-user", "x-request-id", "host", "key", "author"])
def test_names_of_other_things_are_not(name: str) -> None:
    assert not is_secret_name(name)


def test_an_objects_metadata_keep_our_annotations_alone() -> None:
    annotations = {"acmg.io/status": "captured", "kubectl.kubernetes.io/last-applied-configuration": PLANTED, "mine": PLANTED}
    found = redact({"metadata": {"name": "token-service", "managedFields": [PLANTED], "annotations": annotations}})
    assert found["metadata"] == {
        "name": "token-service",
        "annotations": {
            "acmg.io/status": "captured",
            "kubectl.kubernetes.io/last-applied-configuration": REDACTED,
            "mine": REDACTED,
        },
    }


def test_environments_keep_names_alone() -> None:
    env = [{"name": "A", "value": PLANTED}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    assert redact({"env": env}) == {"env": [{"name": "A", "value": REDACTED}, {"name": "B"}]}


def test_header_operations_and_matches_lose_the_values_of_secrets() -> None:
    rule = {
        "match": [{"headers": {"authorization": {"exact": PLANTED}, "end-user": {"exact": "jason"}}}],
        "headers": {"request": {"set": {"X-Api-Key": PLANTED, "x-version": "2"}, "remove": ["cookie"]}},
        "directResponse": {"status": 200, "body": {"string": PLANTED}},
    }
    found = redact(rule)
    assert PLANTED not in str(found)
    assert found["match"][0]["headers"] == {"authorization": {"exact": REDACTED}, "end-user": {"exact": "jason"}}
    assert found["headers"]["request"] == {"set": {"X-Api-Key": REDACTED, "x-version": "2"}, "remove": ["cookie"]}
    assert found["directResponse"]["status"] == 200


def test_the_same_in_a_gateways_own_terms() -> None:
    found = redact(
        {
            "set": [["x-api-key", PLANTED], ["x-version", "2"]],
            "headers": [{"name": "cookie", "match": {"kind": "exact", "value": PLANTED}}],
        }
    )
    assert found == {
        "set": [["x-api-key", REDACTED], ["x-version", "2"]],
        "headers": [{"name": "cookie", "match": {"kind": "exact", "value": REDACTED}}],
    }


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_of_private_kinds_only_the_name_is_kept(kind: str) -> None:
    found = redact({"kind": kind, "metadata": {"name": "s", "labels": {"a": PLANTED}}, "data": {"a": PLANTED}})
    assert found == {"kind": kind, "metadata": {"name": "s"}}


def test_numbers_and_switches_say_nothing_secret() -> None:
    assert redact({"automountServiceAccountToken": False, "tokens": 3, "secretName": "", "credentials": [1, "x"]}) == {
        "automountServiceAccountToken": False, "tokens": 3, "secretName": "", "credentials": [1, REDACTED],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:hunter2@host/p", f"http://{REDACTED}@host/p"),
        ("--set=tracing=https://hunter2@h:1 --workers=2", f"--set=tracing=https://{REDACTED}@h:1 --workers=2"),
        ("http://host/a@b", "http://host/a@b"),
        ("/p?access_token=hunter2&page=2", f"/p?access_token={REDACTED}&page=2"),
        ("token=", "token="),
        ("plain", "plain"),
    ],
)
def test_urls_and_pairs_in_texts_lose_their_secrets(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_logs_keep_events_and_tracebacks_and_no_requests() -> None:
    lines = [
        orjson.dumps({"event": "ready", "admin": "http://127.0.0.1:15000"}).decode(),
        orjson.dumps({"event": "worker died", "path": f"/p?x={PLANTED}", "token": PLANTED}).decode(),
        f'[2026-11-23T10:00:00.000Z] "GET /?{PLANTED} HTTP/1.1" 200 -',
        orjson.dumps({"event": "x", "response_code": 200, "path": f"/{PLANTED}"}).decode(),
        "Traceback (most recent call last):",
        '  File "a.py", line 1',
        f"ValueError: password={PLANTED}",
        PLANTED,
        "3",
    ]
    kept = redact_log("\n".join(lines)).splitlines()
    assert PLANTED not in "\n".join(kept)
    assert orjson.loads(kept[0]) == {"event": "ready", "admin": "http://127.0.0.1:15000"}
    assert orjson.loads(kept[1]) == {"event": "worker died", "path": "/p", "token": REDACTED}
    assert kept[2:5] == ["Traceback (most recent call last):", '  File "a.py", line 1', f"ValueError: password={REDACTED}"]
    assert kept[5:] == ["(4 lines left out: of the access log, or of nobody known)"]
