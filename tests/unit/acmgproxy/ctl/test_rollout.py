# SPDX-License-Identifier: Apache-2.0
"""Facts about when an installation runs, and what is said if it does not."""

from __future__ import annotations

from typing import Any

import pytest

from acmgproxy.ctl.progress import Patience
from acmgproxy.ctl.rollout import Trouble, judge_daemon_set, judge_deployment, no_node, pod_trouble, version_of
from tests.unit.acmgproxy.ctl.objects import daemon_set, deployment, node, pod


@pytest.mark.parametrize(
    ("found", "done", "text"),
    [
        (None, False, "gw: not looked at by the cluster yet"),
        (daemon_set(observed=2), False, "gw: not looked at by the cluster yet"),
        (daemon_set(), True, "gw: 2 of 2 ready"),
        (daemon_set(ready=1), False, "gw: 1 of 2 ready"),
        (daemon_set(updated=1), False, "gw: 2 of 2 ready, 1 of them new"),
        (daemon_set(desired=0, ready=0, updated=0), False, "gw: 0 of 0 ready"),
    ],
)
def test_gateways_run_once_the_newest_are_ready_everywhere(found: Any, done: bool, text: str) -> None:
    assert judge_daemon_set(found, "gw") == (done, text)


@pytest.mark.parametrize(
    ("found", "done", "text"),
    [
        (None, False, "c: not looked at by the cluster yet"),
        (deployment(observed=0), False, "c: not looked at by the cluster yet"),
        (deployment(), True, "c: 2 of 2 available"),
        (deployment(available=1), False, "c: 1 of 2 available"),
        (deployment(updated=1), False, "c: 2 of 2 available, 1 old ones left"),
        (deployment(total=3), False, "c: 2 of 2 available, 1 old ones left"),
    ],
)
def test_a_controller_runs_once_no_old_one_is_left(found: Any, done: bool, text: str) -> None:
    assert judge_deployment(found, "c") == (done, text)


def test_without_a_labelled_node_it_is_said_how_to_label_and_taint_one() -> None:
    found = no_node(daemon_set(), [node("a"), node("b", {"acmg.io/gateway": "false"})])
    assert found is not None
    assert "kubectl label node NODE acmg.io/gateway=true\n" in found
    assert "kubectl taint node NODE acmg.io/gateway=true:NoSchedule\n" in found


def test_one_labelled_node_is_enough_and_no_selector_takes_any() -> None:
    assert no_node(daemon_set(), [node("a"), node("b", {"acmg.io/gateway": "true", "x": "y"})]) is None
    anywhere = daemon_set()
    del anywhere["spec"]["template"]["spec"]["nodeSelector"]
    assert no_node(anywhere, []) is None


def _waiting(reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    container = {"image": "hub/x:1", "state": {"waiting": {"reason": reason, "message": message}}, **status}
    return pod("gw-1", ready=False, containerStatuses=[container])


def test_an_image_that_cannot_be_pulled_is_named_with_the_reason() -> None:
    trouble = pod_trouble(_waiting("ImagePullBackOff", "manifest unknown"))
    assert trouble is not None
    assert trouble.lasting
    assert "gw-1: the image hub/x:1 cannot be pulled (ImagePullBackOff: manifest unknown)" in trouble.text
    assert "--set hub" in trouble.text


def test_the_first_failed_pull_may_pass() -> None:
    trouble = pod_trouble(_waiting("ErrImagePull"))
    assert trouble is not None
    assert not trouble.lasting


def test_a_process_that_keeps_ending_is_told_with_its_last_words() -> None:
    ended = {"terminated": {"exitCode": 3, "message": "a\nno permission\n"}}
    trouble = pod_trouble(_waiting("CrashLoopBackOff", lastState=ended))
    assert trouble is not None
    assert trouble.text == (
        "pod gw-1: its process keeps ending (exit code 3: no permission). See `kubectl logs -n acmg-system gw-1 --previous`"
    )


def test_a_container_that_cannot_be_made_and_a_pod_that_no_node_takes_are_told() -> None:
    made = pod_trouble(_waiting("CreateContainerConfigError", "secret missing"))
    assert made is not None
    assert "(CreateContainerConfigError: secret missing)" in made.text
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    taken = pod_trouble(pod("gw-2", conditions=[condition]))
    assert taken is not None
    assert "no node takes it: 0/3 nodes" in taken.text
    assert not taken.lasting


def test_a_pod_that_merely_starts_is_in_no_trouble() -> None:
    assert pod_trouble(_waiting("ContainerCreating")) is None
    assert pod_trouble(pod("gw-1")) is None


def test_patience_ends_with_a_trouble_that_lasts_and_not_before() -> None:
    patience = Patience(5.0)
    crash, slow = Trouble("a", "crash", lasting=True), Trouble("b", "slow", lasting=False)
    assert patience.lost([crash, slow], 0.0) is None
    assert patience.lost([crash, slow], 4.9) is None
    assert patience.lost([slow], 5.0) is None
    assert patience.lost([crash], 6.0) is None
    assert patience.lost([crash], 11.0) is crash


def test_a_version_is_the_label_or_the_tag_of_the_image() -> None:
    assert version_of(None) == ""
    assert version_of(deployment()) == "1.2"
    labelled = deployment()
    labelled["metadata"]["labels"] = {"app.kubernetes.io/version": "9"}
    assert version_of(labelled) == "9"
    untagged = daemon_set()
    untagged["spec"]["template"]["spec"]["containers"][0]["image"] = "host:5000/acmgproxy"
    assert version_of(untagged) == "host:5000/acmgproxy"
