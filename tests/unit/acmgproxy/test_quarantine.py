# SPDX-License-Identifier: Apache-2.0
"""Facts about quarantine: what counts as the same request, what as a fault, and that all of it ends."""

from __future__ import annotations

import signal

import pytest

from acmgproxy import quarantine as module
from acmgproxy.quarantine import QUARANTINE_S, REMEMBER_S, Quarantine, describe_head, fingerprint, is_fault

_HEAD = b"GET /a?b=c HTTP/1.1\r\nHost:  h.example \r\nX-Request-Id: 1\r\nX-A: 1\r\n\r\n"


def test_the_second_death_is_one_too_many() -> None:
    quarantine = Quarantine()
    first = quarantine.on_death(_HEAD, 1, 0.0)
    assert (first.pids, first.is_quarantined, quarantine.heads) == ((1,), False, [])
    second = quarantine.on_death(_HEAD, 2, REMEMBER_S - 1)
    assert (second.pids, second.is_quarantined, quarantine.heads) == ((1, 2), True, [fingerprint(_HEAD)])
    assert repr(quarantine) == "<Quarantine suspects=0 quarantined=1>"


def test_a_death_long_ago_does_not_count() -> None:
    quarantine = Quarantine()
    quarantine.on_death(_HEAD, 1, 0.0)
    assert not quarantine.on_death(_HEAD, 2, REMEMBER_S).is_quarantined
    assert quarantine.on_death(_HEAD, 3, REMEMBER_S + 1).pids == (2, 3)


def test_it_ends_and_all_is_forgotten() -> None:
    quarantine = Quarantine()
    for pid in (1, 2):
        quarantine.on_death(_HEAD, pid, 0.0)
    assert not quarantine.expire(QUARANTINE_S - 1)
    assert quarantine.expire(QUARANTINE_S)
    assert not len(quarantine)
    assert not quarantine.on_death(_HEAD, 3, QUARANTINE_S).is_quarantined


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUSPECTS", 2)
    monkeypatch.setattr(module, "MAX_QUARANTINED", 2)
    quarantine = Quarantine()
    heads = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(3)]
    for head in heads:
        quarantine.on_death(head, 1, 0.0)
    assert not quarantine.on_death(heads[0], 2, 1.0).is_quarantined, "the oldest has been forgotten"
    for head in heads:
        for pid in (3, 4):
            quarantine.on_death(head, pid, 2.0)
    assert quarantine.heads == sorted(map(fingerprint, heads[1:]))


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [(b"Id: 1", b"Id: 2", True), (b"X-A: 1", b"X-A: 2", False), (b"/a?b=c", b"/a?b=d", False), (b"GET", b"PUT", False)],
)
def test_the_same_request_again_differs_in_its_id_only(old: bytes, new: bytes, *, is_same: bool) -> None:
    assert (fingerprint(_HEAD.replace(old, new)) == fingerprint(_HEAD)) is is_same


@pytest.mark.parametrize(
    ("returncode", "expected"),
    [(-signal.SIGSEGV, True), (-signal.SIGABRT, True), (1, True), (0, False), (-signal.SIGKILL, False), (-signal.SIGTERM, False)],
)
def test_only_what_a_process_does_to_itself_is_a_fault(returncode: int, *, expected: bool) -> None:
    assert is_fault(returncode) is expected


def test_a_head_is_described_without_its_secrets() -> None:
    assert describe_head(_HEAD) == {"method": "GET", "path": "/a", "host": "h.example"}
    assert describe_head(b"\xff\r\n\r\n") == {"method": "\\xff", "path": "", "host": ""}
