# SPDX-License-Identifier: Apache-2.0
"""What the API sends, well formed and not."""

from __future__ import annotations

import pytest

from discovery.kube.wire import Head, WireError, read_bookmark, read_event, read_head, read_page


def test_an_event_has_a_type_and_an_object() -> None:
    event = read_event(b'{"type":"ADDED","object":{"a":1},"more":2}')
    assert (event.type, bytes(event.object)) == ("ADDED", b'{"a":1}')


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"<html>", b'{"type":"ADDED"}', b'{"object":{}}', b'{"type":5,"object":{}}', b"\xff"]
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(WireError, match="no event"):
        read_event(line)


@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (b'{"metadata":{"name":"a","namespace":"n","resourceVersion":"5"},"spec":[1]}', Head("n", "a", "5")),
        (b'{"metadata":{"name":"a"}}', Head("", "a", "")),
        (b"{}", Head("", "", "")),
        (b'{"metadata":{"name":"a","namespace":null,"resourceVersion":5}}', Head("", "a", "")),
        (b'{"metadata":null}', Head("", "", "")),
        (b"[1]", Head("", "", "")),
        (b"nonsense", Head("", "", "")),
    ],
)
def test_an_object_is_named_as_far_as_possible(raw: bytes, head: Head) -> None:
    assert read_head(raw) == head


def test_the_bookmark_behind_the_initial_events_is_told_from_others() -> None:
    end = b'{"metadata":{"resourceVersion":"5","annotations":{"k8s.io/initial-events-end":"true"}}}'
    assert read_bookmark(end) == ("5", True)
    assert read_bookmark(b'{"metadata":{"resourceVersion":"5"}}') == ("5", False)
    assert read_bookmark(b'{"metadata":{"resourceVersion":"5","annotations":null}}') == ("5", False)
    with pytest.raises(WireError):
        read_bookmark(b'{"metadata":{"resourceVersion":5}}')


def test_a_page_has_a_version_perhaps_a_token_and_items() -> None:
    page = read_page(b'{"metadata":{"resourceVersion":"5","continue":"x"},"items":[{"a":1},null]}')
    assert (page.version, page.token, [bytes(item) for item in page.items]) == ("5", "x", [b'{"a":1}', b"null"])
    assert read_page(b'{"metadata":{"resourceVersion":"5"},"items":null}')[1:] == ("", [])


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"<html>", b'{"metadata":{},"items":[]}', b'{"metadata":{"resourceVersion":"5"},"items":']
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="list"):
        read_page(data)
