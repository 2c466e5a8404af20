# SPDX-License-Identifier: Apache-2.0
"""What was expected against what was seen: pure functions from a group of answers to a list of complaints.

A group is what one expectation is about: the answers to one entry of `requests`, or all answers of the case. Every key of an
expectation has its check here. What is said of one answer must hold for each of the group; the first that differs is shown, with
the number of those that do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import re2

from tests.cases.model import Cookie
from tests.cases.scene import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tests.cases.client import Result
    from tests.cases.model import Expect, Received, Upstream
    from tests.cases.pods import Call
    from tests.cases.scene import Scene

__all__ = ["Group", "check", "expand"]


@dataclass(slots=True, kw_only=True)
class Group:
    """Answers, and the calls pods received meanwhile.

    Attributes:
        scene: the pods and Services.
        results: the answers.
        callers: address of the caller, for each of the results.
        calls: everything the pods received.
    """

    scene: Scene
    results: list[Result] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def subset(self, wanted: Callable[[Result], bool]) -> Group:
        """Return the answers that are `wanted`, with all calls."""
        chosen = [number for number, result in enumerate(self.results) if wanted(result)]
        return Group(
            scene=self.scene,
            results=[self.results[number] for number in chosen],
            callers=[self.callers[number] for number in chosen],
            calls=self.calls,
        )

    def mirrored(self, name: str = "") -> list[Call]:
        """Return the calls that pods called `name`, or any, received without an answer that anybody got."""
        answered = {result.attempt.number for result in self.results if result.attempt is not None}
        pods = self.scene.pods_called(name) if name else self.scene.pods.keys()
        return [call for call in self.calls if call.pod in pods and call.number not in answered]


def check(expect: Expect, group: Group) -> list[str]:
    """Return what is not as expected, [] if everything is."""
    if expect.warm_up:
        return []
    complaints = [
        *_each(group, lambda result, caller: _answer(expect, result, caller, group.scene)),
        *_shares(expect, group),
        *_counts(expect, group),
        *_pods(expect, group),
        *_mirrors(expect, group),
    ]
    for status, inner in expect.on_status.items():
        complaints += [f"on {status}: {text}" for text in check(inner, group.subset(lambda result, s=status: result.status == s))]  # type: ignore[misc]
    for name, inner in expect.per_upstream.items():
        pods = group.scene.pods_called(name)
        part = group.subset(lambda result, pods=pods: result.call is not None and result.call.pod in pods)  # type: ignore[misc]
        complaints += [f"answers of {name}: {text}" for text in check(inner, part)]
        if not part.results:
            complaints.append(f"answers of {name}: there are none")
    return complaints


def expand(text: str, caller: str) -> str:
    """Fill in what only the run knows."""
    return text.replace("${caller_ip}", caller)


# --- one answer -----------------------------------------------------------------------------------------------------------


def _each(group: Group, complaints_of: Callable[[Result, str], Iterable[str]]) -> list[str]:
    """Check every answer; say of the first that differs how, and how many do."""
    first: list[str] = []
    wrong = 0
    for result, caller in zip(group.results, group.callers, strict=True):
        complaints = list(complaints_of(result, caller))
        if complaints:
            wrong += 1
            first = first or [f"{text} [{_brief(result)}]" for text in complaints]
    if wrong and len(group.results) > 1:
        first = [f"{text} ({wrong} of {len(group.results)} answers differ)" for text in first]
    return first


def _answer(expect: Expect, result: Result, caller: str, scene: Scene) -> Iterator[str]:
    if result.error:
        yield f"no good answer: {result.error}"
    if expect.status is not None and result.status != expect.status:
        yield f"status: expected {expect.status}, saw {result.status}"
    if expect.status_in is not None and result.status not in expect.status_in:
        yield f"status: expected one of {expect.status_in}, saw {result.status}"
    if expect.flag is not None and expect.flag != result.flag and expect.flag not in (result.flag or "").split(","):
        yield f"flag: expected {expect.flag}, the access log has {result.flag or 'no line'}"
    if expect.body is not None and expand(expect.body, caller) != result.body:
        yield f"body: expected {expand(expect.body, caller)!r}, saw {result.body!r}"
    if expect.duration_ms is not None:
        least, most = expect.duration_ms
        if not (least or 0.0) <= result.duration_ms <= (most if most is not None else float("inf")):
            yield f"duration_ms: expected {least:g} to {most:g}, took {result.duration_ms:.0f}"
    wanted = dict(expect.response_headers) | ({"location": expect.location} if expect.location is not None else {})
    yield from _headers("response", result.headers, wanted, expect.response_headers_absent, expect.response_headers_match, caller)
    yield from _cookies(expect, result)
    if expect.upstream is not None:
        yield from _upstream(expect.upstream, result, scene)
    if expect.upstream_request is not None:
        if result.attempt is None:
            yield "upstream_request: no pod received it"
        else:
            yield from _received(expect.upstream_request, result.attempt, caller, "upstream_request")


def _upstream(expect: Upstream, result: Result, scene: Scene) -> Iterator[str]:
    call = result.call
    if call is None:
        yield "upstream: no pod answered"
        return
    labels = scene.pods[call.pod].labels
    seen: dict[str, object] = {
        "app": labels.get("app"),
        "version": labels.get("version"),
        "namespace": call.pod[0],
        "pod": call.pod[1],
        "pod_port": call.port,
    }
    for key, found in seen.items():
        wanted = getattr(expect, key)
        if wanted is not None and str(wanted) != str(found):
            yield f"upstream {key}: expected {wanted}, saw {found}"


def _received(expect: Received, call: Call, caller: str, what: str) -> Iterator[str]:
    """Check what a pod received."""
    plain: dict[str, tuple[str | None, str | None]] = {
        "method": (expect.method, call.method),
        "path": (expect.path, call.path),
        "host": (expect.host, ",".join(call.values("host"))),
        "body": (expect.body, call.body),
        "sni": (expect.sni, call.sni),
    }
    for key, (wanted, seen) in plain.items():
        if wanted is not None and expand(wanted, caller) != seen:
            yield f"{what} {key}: expected {expand(wanted, caller)!r}, the pod received {seen!r}"
    yield from _headers(what, call.headers, expect.headers, expect.headers_absent, expect.headers_match, caller)
    if expect.proxy_protocol is not None:
        for key, value in expect.proxy_protocol.items():
            found = (call.proxy_protocol or {}).get(key)
            if found != expand(text_of(value), caller):
                yield f"{what} proxy_protocol {key}: expected {expand(text_of(value), caller)}, saw {found}"


def _headers(
    what: str,
    lines: Sequence[tuple[str, str]],
    wanted: Mapping[str, object],
    absent: Sequence[str],
    patterns: Mapping[str, str],
    caller: str,
) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, value in lines:
        seen[name] = f"{seen[name]},{value}" if name in seen else value
    for name, said in wanted.items():
        text = expand(text_of(said), caller)
        found = seen.get(name.lower())
        if found is None or _compact(found) != _compact(text):
            yield f"{what} header {name}: expected {text!r}, saw {found!r}"
    for name in absent:
        if name.lower() in seen:
            yield f"{what} header {name}: expected none, saw {seen[name.lower()]!r}"
    for name, pattern in patterns.items():
        found = seen.get(name.lower())
        if found is None or re2.search(expand(pattern, caller), _compact(found)) is None:
            yield f"{what} header {name}: expected a match of {pattern!r}, saw {found!r}"


def _compact(value: str) -> str:
    """Take out the blanks after commas between values."""
    return ",".join(part.strip() for part in value.split(","))


def _cookies(expect: Expect, result: Result) -> Iterator[str]:
    lines = result.values("set-cookie")
    names = [line.partition("=")[0] for line in lines]
    wanted = expect.set_cookie
    if isinstance(wanted, Cookie):
        if not any(_is_cookie(wanted, line) for line in lines):
            yield f"set_cookie: expected {wanted}, saw {lines}"
    elif isinstance(wanted, str):
        if wanted not in names and not any(re2.search(wanted, line) for line in lines):
            yield f"set_cookie: expected {wanted!r}, saw {lines}"
    elif wanted is not None and wanted != bool(lines):
        yield f"set_cookie: expected {'one' if wanted else 'none'}, saw {lines}"
    unwanted = expect.no_set_cookie
    if (isinstance(unwanted, str) and unwanted in names) or (unwanted is True and lines):
        yield f"no_set_cookie: expected none, saw {lines}"


def _is_cookie(cookie: Cookie, line: str) -> bool:
    pair, *attributes = (part.strip() for part in line.split(";"))
    found = {name.lower(): value for name, _, value in (attribute.partition("=") for attribute in attributes)}
    return (
        pair.partition("=")[0] == cookie.name
        and (cookie.path is None or found.get("path") == cookie.path)
        and (cookie.max_age is None or found.get("max-age") == str(cookie.max_age))
    )


# --- several together -----------------------------------------------------------------------------------------------------


def _shares(expect: Expect, group: Group) -> Iterator[str]:
    count = len(group.results)
    if not count:
        if expect.distribution or expect.distribution_min or expect.status_distribution:
            yield "a distribution of no answers at all"
        return
    answered = Counter(result.call.pod for result in group.results if result.call is not None)

    def share(name: str) -> float:
        return 100 * sum(answered[pod] for pod in group.scene.pods_called(name)) / count

    seen = ", ".join(f"{namespace}/{pod} {100 * number / count:.1f} %" for (namespace, pod), number in sorted(answered.items()))
    for name, percent in (expect.distribution or {}).items():
        if abs(share(name) - percent) > expect.tolerance_points:
            yield f"distribution: {name} expected {percent:g} +- {expect.tolerance_points:g} %, saw {share(name):.1f} % ({seen})"
    for name, percent in (expect.distribution_min or {}).items():
        if share(name) < percent:
            yield f"distribution_min: {name} expected at least {percent:g} %, saw {share(name):.1f} % ({seen})"
    statuses = Counter(result.status for result in group.results)
    for status, percent in (expect.status_distribution or {}).items():
        found = 100 * statuses[status] / count
        if abs(found - percent) > expect.tolerance_points:
            text = f"expected {percent:g} +- {expect.tolerance_points:g} %, saw {found:.1f} % ({dict(statuses)})"
            yield f"status_distribution: {status} {text}"
    for status, least in (expect.status_counts_min or {}).items():
        if statuses[status] < least:
            yield f"status_counts_min: expected {status} at least {least} times, saw {dict(statuses)}"


def _counts(expect: Expect, group: Group) -> Iterator[str]:
    aside = {call.number for name in _mirror_names(expect) for call in group.mirrored(name)}
    calls = [call for call in group.calls if call.number not in aside]
    if expect.upstream_calls is not None and len(calls) != expect.upstream_calls:
        yield f"upstream_calls: expected {expect.upstream_calls}, saw {len(calls)} {_places(calls)}"
    if expect.upstream_calls_max is not None and len(calls) > expect.upstream_calls_max:
        yield f"upstream_calls_max: expected at most {expect.upstream_calls_max}, saw {len(calls)} {_places(calls)}"
    connections = {call.connection for call in calls}
    if expect.upstream_connections is not None and len(connections) != expect.upstream_connections:
        yield f"upstream_connections: expected {expect.upstream_connections}, saw {len(connections)} {_places(calls)}"


def _pods(expect: Expect, group: Group) -> Iterator[str]:
    pods = {result.call.pod for result in group.results if result.call is not None}
    names = sorted("/".join(pod) for pod in pods)
    if expect.single_pod is not None and (len(pods) == 1) != expect.single_pod:
        yield f"single_pod: expected {expect.single_pod}, answers came from {names}"
    if expect.all_pods_seen is not None:
        peers = group.scene.ready_peers(pods)
        if (bool(pods) and pods >= peers) != expect.all_pods_seen:
            yield f"all_pods_seen: expected {expect.all_pods_seen}, answers came from {names}"


def _mirrors(expect: Expect, group: Group) -> Iterator[str]:
    for name, number in (expect.mirrored or {}).items():
        seen = len(group.mirrored(name))
        if seen != number:
            yield f"mirrored: {name} expected {number} copies, saw {seen} {_places(group.calls)}"
    for name, percent in (expect.mirrored_percent or {}).items():
        share = 100 * len(group.mirrored(name)) / max(1, len(group.results))
        if abs(share - percent) > expect.tolerance_points:
            yield f"mirrored_percent: {name} expected {percent:g} +- {expect.tolerance_points:g} %, saw {share:.1f} %"
    if expect.mirrored_request is not None:
        copies = [call for name in _mirror_names(expect) or {""} for call in group.mirrored(name)]
        if not copies:
            yield "mirrored_request: no copy was seen"
        caller = group.callers[0] if group.callers else ""
        for call in copies[:1]:
            yield from _received(expect.mirrored_request, call, caller, "mirrored_request")


def _mirror_names(expect: Expect) -> set[str]:
    return {*(expect.mirrored or ()), *(expect.mirrored_percent or ())}


def _places(calls: Iterable[Call]) -> str:
    return str(dict(Counter(f"{call.pod[0]}/{call.pod[1]}:{call.port}" for call in calls)))


def _brief(result: Result) -> str:
    if result.call is not None:
        what = f"from {result.call.pod[0]}/{result.call.pod[1]}:{result.call.port}"
    else:
        text = result.body if len(result.body) <= 100 else result.body[:100] + "..."
        what = f"no pod answered, {text.strip()!r}"
    return ", ".join(filter(None, (f"saw {result.status}", f"flag {result.flag}" if result.flag else "", what)))
