# SPDX-License-Identifier: Apache-2.0
"""What a watch does next, given everything that can happen to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.kube.backoff import WatchLimits
from discovery.kube.machine import MOVES, Effect, Features, Happening, Machine, Phase, Step, Wait, is_older

H = Happening
ON_STREAM = {H.EVENT, H.BOOKMARK, H.SYNCED, H.CUT, H.SILENT, H.MUTE}
ON_ANSWER = {H.EXPIRED, H.REJECTED, H.GARBLED, H.NOT_FOUND, H.FAILED}


class Script:
    """A machine and its clock."""

    def __init__(self, *, features: Features | None = None, versions: int = 1, may_be_absent: bool = False) -> None:
        self.now = 1000.0
        self.features = features or Features()
        self.machine = Machine(WatchLimits(), self.features, versions=versions, may_be_absent=may_be_absent, draw=lambda: 0.0)
        self.effects: list[Effect] = []

    def step(self) -> Step:
        step = self.machine.step()
        self.now += step.wait_s
        return step

    def take(self, what: Happening, version: str = "", **options: float) -> bool:
        """Let something happen; return whether the stream is read on."""
        token = str(options.pop("token", ""))
        move = self.machine.take(
            what, self.now, version=version, token=token, asked_s=options.get("asked_s"), lived_s=options.get("lived_s", 0.0)
        )
        self.effects.append(move.effect)
        return move.wait is None

    def watching(self, version: str = "100") -> Script:
        self.step()
        assert self.take(H.EVENT, "7")
        assert self.take(H.SYNCED, version)
        return self


def test_the_first_snapshot_is_a_stream_without_a_version() -> None:
    script = Script()
    assert script.step() == Step(Phase.STREAMING, 0.0, "", "", 500, True, 0)


def test_versions_of_initial_events_are_no_position() -> None:
    script = Script()
    script.step()
    assert script.take(H.EVENT, "999")
    assert script.take(H.EVENT, "5")
    assert "not synced" in repr(script.machine)
    assert script.take(H.SYNCED, "1000")
    assert script.effects == [Effect.NONE, Effect.NONE, Effect.SWAP]
    assert script.machine.is_synced
    assert script.machine.version == "1000"


def test_events_and_bookmarks_are_the_position_to_continue_from() -> None:
    script = Script().watching("100")
    assert script.take(H.EVENT, "101")
    assert script.take(H.BOOKMARK, "150")
    script.take(H.CUT, lived_s=300)
    assert script.step() == Step(Phase.WATCHING, 0.0, "150", "", 500, False, 0)


@pytest.mark.parametrize("what", [H.CUT, H.SILENT, H.FAILED])
def test_a_lost_connection_continues_from_the_same_version_after_a_wait(what: Happening) -> None:
    script = Script().watching("100")
    assert not script.take(what)
    assert script.step() == Step(Phase.WATCHING, 0.8, "100", "", 500, False, 0)
    assert script.machine.is_synced


@pytest.mark.parametrize("what", [H.EXPIRED, H.REJECTED, H.GARBLED, H.MUTE, H.NOT_FOUND])
def test_a_lost_thread_needs_a_new_snapshot(what: Happening) -> None:
    script = Script(may_be_absent=True).watching("100")
    assert not script.take(what)
    step = script.step()
    assert (step.phase, step.wait_s, step.is_first) == (Phase.STREAMING, 0.8, True)
    assert Effect.EMPTY not in script.effects


def test_a_server_that_is_back_and_has_forgotten_the_version_is_asked_soon_but_only_once_for_each_failure() -> None:
    script = Script().watching("100")
    for _ in range(8):
        script.take(H.FAILED)
        script.step()
    script.take(H.EXPIRED)
    assert script.step()[:2] == (Phase.STREAMING, 0.8)
    script.take(H.SYNCED, "200")
    script.take(H.EXPIRED)
    assert script.step()[:2] == (Phase.STREAMING, 30.0), "nothing had failed: a server that forgets everything is no news"


@pytest.mark.parametrize("what", [H.EVENT, H.BOOKMARK])
def test_a_version_that_goes_back_needs_a_new_snapshot(what: Happening) -> None:
    script = Script().watching("100")
    assert not script.take(what, "99")
    assert script.step().phase is Phase.STREAMING
    assert script.take(H.SYNCED, "50")
    assert script.machine.version == "50"


def test_the_same_version_again_does_no_harm() -> None:
    script = Script().watching("100")
    assert script.take(H.EVENT, "100")
    assert script.machine.version == "100"


def test_a_server_that_refuses_the_stream_is_never_asked_for_one_again() -> None:
    features = Features()
    script = Script(features=features)
    script.step()
    script.take(H.REJECTED)
    assert script.step()[:2] == (Phase.LISTING, 0.0)
    other = Script(features=features)
    assert other.step().phase is Phase.LISTING
    script.take(H.LISTED, "10")
    script.take(H.EXPIRED)
    assert script.step().phase is Phase.LISTING


def test_a_watch_that_began_before_the_refusal_was_known_lists_too() -> None:
    script = Script()
    script.features.watch_list = False
    assert script.step().phase is Phase.LISTING


def test_a_plain_bookmark_among_initial_events_shows_a_server_that_ignores_the_wish() -> None:
    script = Script()
    script.step()
    assert script.take(H.EVENT, "5")
    assert not script.take(H.BOOKMARK, "9")
    assert script.step()[:2] == (Phase.LISTING, 0.0)
    assert not script.features.watch_list


@pytest.mark.parametrize("what", [H.CUT, H.SILENT, H.MUTE, H.EXPIRED, H.GARBLED])
def test_a_snapshot_that_broke_off_is_listed_this_time_only(what: Happening) -> None:
    script = Script()
    script.step()
    script.take(what)
    assert script.step()[:2] == (Phase.LISTING, 0.8)
    script.take(H.LISTED, "10")
    assert script.features.watch_list
    script.take(H.EXPIRED)
    assert script.step().phase is Phase.STREAMING


def listing() -> Script:
    features = Features()
    features.watch_list = False
    return Script(features=features)


def test_pages_follow_each_other_at_once() -> None:
    script = listing()
    assert script.step() == Step(Phase.LISTING, 0.0, "", "", 500, True, 0)
    script.take(H.PAGE, "10", token="a")  # type: ignore[arg-type]
    assert script.step() == Step(Phase.LISTING, 0.0, "", "a", 500, False, 0)
    script.take(H.LISTED, "10")
    assert script.step() == Step(Phase.WATCHING, 0.0, "10", "", 500, False, 0)
    assert script.effects == [Effect.NONE, Effect.SWAP]


def test_a_page_that_failed_is_asked_for_again() -> None:
    script = listing()
    script.step()
    script.take(H.PAGE, "10", token="a")  # type: ignore[arg-type]
    script.step()
    script.take(H.FAILED)
    step = script.step()
    assert (step.token, step.wait_s, step.is_first) == ("a", 0.8, False)


def test_a_token_that_expired_begins_a_new_snapshot_with_larger_pages() -> None:
    script = listing()
    script.step()
    script.take(H.PAGE, "10", token="a")  # type: ignore[arg-type]
    script.step()
    script.take(H.EXPIRED)
    step = script.step()
    assert (step.token, step.limit, step.is_first, step.wait_s) == ("", 5000, True, 0.8)
    script.take(H.LISTED, "10")
    script.take(H.EXPIRED)
    assert script.step().limit == 500


@pytest.mark.parametrize("what", [H.REJECTED, H.GARBLED])
def test_a_list_that_makes_no_sense_begins_again(what: Happening) -> None:
    script = listing()
    script.step()
    script.take(H.PAGE, "10", token="a")  # type: ignore[arg-type]
    script.step()
    script.take(what)
    step = script.step()
    assert (step.phase, step.token, step.is_first, step.wait_s) == (Phase.LISTING, "", True, 0.8)


def test_the_server_is_given_the_time_it_asks_for() -> None:
    script = Script().watching()
    script.take(H.FAILED, asked_s=17)
    assert script.step().wait_s == 17


def test_a_stream_that_lived_for_a_minute_is_renewed_at_once_a_shorter_one_after_a_wait() -> None:
    script = Script().watching()
    script.take(H.CUT, lived_s=60)
    assert script.step().wait_s == 0
    script.take(H.CUT, lived_s=59)
    assert script.step().wait_s == 0.8


def test_a_kind_of_the_servers_own_is_never_absent() -> None:
    script = Script()
    for _ in range(5):
        script.step()
        script.take(H.NOT_FOUND)
    assert not script.machine.is_synced
    assert script.step().wait_s == pytest.approx(12.8)


def test_a_kind_is_absent_once_no_version_of_it_is_there() -> None:
    script = Script(versions=3, may_be_absent=True)
    for served in range(3):
        step = script.step()
        assert (step.served, step.wait_s) == (served, 0)
        assert not script.machine.is_absent
        script.take(H.NOT_FOUND)
    assert script.machine.is_absent
    assert script.machine.is_synced
    assert script.effects[-1] is Effect.EMPTY
    step = script.step()
    assert (step.served, step.wait_s) == (0, 30)


def test_a_kind_that_comes_is_no_longer_absent_and_found_in_the_version_it_has() -> None:
    script = Script(versions=3, may_be_absent=True)
    for _ in range(4):
        script.step()
        script.take(H.NOT_FOUND)
    assert script.step().served == 1
    script.take(H.SYNCED, "10")
    assert not script.machine.is_absent
    assert script.step().served == 1


def test_a_kind_that_was_there_is_asked_for_twice_before_it_is_believed_gone() -> None:
    script = Script(versions=2, may_be_absent=True).watching()
    script.take(H.NOT_FOUND)
    for _ in range(3):
        step = script.step()
        assert step.wait_s >= 0.8
        script.take(H.NOT_FOUND)
        assert not script.machine.is_absent
        assert Effect.EMPTY not in script.effects
    script.step()
    script.take(H.NOT_FOUND)
    assert script.machine.is_absent
    assert script.effects[-1] is Effect.EMPTY


def test_an_absent_kind_stays_absent_while_the_server_is_away() -> None:
    script = Script(may_be_absent=True)
    script.step()
    script.take(H.NOT_FOUND)
    script.step()
    script.take(H.FAILED)
    assert script.machine.is_absent
    assert script.machine.is_synced
    assert script.step().wait_s == 0.8


def test_versions_are_compared_as_numbers_and_only_as_such() -> None:
    assert is_older("9", "10")
    assert not is_older("10", "9")
    assert not is_older("10", "10")
    assert not is_older("", "10")
    assert not is_older("5", "")
    assert not is_older("a", "b")


def test_every_happening_has_a_transition_wherever_it_can_happen() -> None:
    for phase, possible in {
        Phase.STREAMING: (ON_STREAM | ON_ANSWER),
        Phase.LISTING: {H.PAGE, H.LISTED} | ON_ANSWER,
        Phase.WATCHING: ON_STREAM | ON_ANSWER | {H.BACKWARDS},
    }.items():
        assert {what for where, what in MOVES if where is phase} == possible


def test_nothing_but_progress_goes_without_a_wait() -> None:
    at_once = {key for key, move in MOVES.items() if move.wait is Wait.NONE}
    assert at_once == {
        (Phase.STREAMING, H.BOOKMARK),  # once in the life of a process, as the next
        (Phase.STREAMING, H.REJECTED),
        (Phase.LISTING, H.PAGE),
        (Phase.LISTING, H.LISTED),
    }


_BAD = [H.CUT, H.SILENT, H.MUTE, H.EXPIRED, H.REJECTED, H.GARBLED, H.NOT_FOUND, H.FAILED]


@given(st.lists(st.sampled_from(_BAD), min_size=100, max_size=100), st.booleans(), st.booleans())
def test_no_sequence_of_failures_asks_more_than_once_a_second(bad: list[Happening], custom: bool, begins_synced: bool) -> None:
    script = Script(may_be_absent=custom)
    if begins_synced:
        script.watching()
    begin, requests = script.now, 0
    for what in bad:
        requests += 1
        phase = script.step().phase
        if (phase, what) in MOVES:
            script.take(what)
        else:
            script.take(H.FAILED)
    assert requests / (script.now - begin) < 1 / 10  # 100 requests, so mostly at the longest wait
    assert script.machine.is_synced >= begins_synced


def test_a_snapshot_that_succeeds_and_a_watch_that_never_does_stay_slow() -> None:
    """A server that lists and then answers every watch with 410 must not be listed all the time."""
    script = listing()
    begin, lists = script.now, 0
    while script.now < begin + 3600:
        step = script.step()
        lists += step.phase is Phase.LISTING
        script.take(H.LISTED if step.phase is Phase.LISTING else H.EXPIRED, "10")
    assert lists <= 130
