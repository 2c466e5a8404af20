# SPDX-License-Identifier: Apache-2.0
"""The API server away, hung, restored, rotated, restarted: no request fails, and nobody tramples it when it comes back."""

from __future__ import annotations

import base64
import ssl
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import trustme
import yaml

from discovery.kube import GATEWAY_KINDS, WatchLimits
from tests.interop.gateway import wait_for
from tests.kube import FakeApiServer
from tests.storms.fleet import Fleet
from tests.storms.load import Load
from tests.storms.site import destination_rule, endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.storms.site import Obj, Site

GATEWAYS = 5


def service(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as server:
        for number in range(20):
            server.put(service(f"s{number}"))
        yield server


@pytest.mark.parametrize("how", ["reset", "503", "429"])
async def test_ten_minutes_away_cost_few_requests_and_the_return_is_no_stampede(
    api: FakeApiServer, tmp_path: Path, how: str
) -> None:
    async with Fleet(api, api.kubeconfig(tmp_path), GATEWAYS) as fleet:
        await fleet.synced()
        away = api.faults.reset(count=None) if how == "reset" else api.faults.answer(int(how), count=None, retry_after_s=1)
        api.faults.cut_watches(abort=True)
        began = fleet.now
        await fleet.calm()
        await fleet.pass_time(600)
        ended = fleet.now
        during = Counter(made.plural for made in fleet.between(began, ended))
        assert set(during) == {kind.plural for kind in GATEWAY_KINDS}
        assert max(during.values()) < 600, "less than one a second for each kind, of all gateways together"
        assert fleet.worst(began + 60, ended) <= fleet.watches / 2, "and never many at once"
        assert fleet.know("Service", "s0") == GATEWAYS, "what was known is still known"
        assert min(status.stale_s for status in fleet.statuses() if not status.absent) >= 600

        api.put(service("new"))
        api.faults.compact()  # ten minutes are more than it remembers
        api.faults.cancel(away)
        await fleet.pass_time(60)
        assert fleet.know("Service", "new") == GATEWAYS, "within one backoff"
        expired_s = fleet.now - ended
        await fleet.pass_time(60)
        api.faults.bookmark()
        await fleet.until(lambda: all(status.stale_s < 60 for status in fleet.statuses()), "every watch is open")
        after = fleet.between(ended, fleet.now)
        print(
            f"measured: {sum(during.values())} requests of {fleet.watches} watches in 600 s away, at most "
            f"{fleet.worst(began + 60, ended)} a second; {len(after)} in {expired_s + 60:.0f} s after, at most "
            f"{fleet.worst(ended, fleet.now)} a second"
        )
        served = {kind.plural for kind in GATEWAY_KINDS if not kind.is_custom}  # the others are looked for every half minute
        assert sum(made.plural in served for made in after) <= 3 * len(served) * GATEWAYS, "asked again, and a snapshot"
        assert fleet.worst(ended, fleet.now) <= fleet.watches / 2


async def test_a_restart_that_cuts_every_watch_at_once_spreads_their_return(api: FakeApiServer, tmp_path: Path) -> None:
    async with Fleet(api, api.kubeconfig(tmp_path), 20) as fleet:
        await fleet.synced()
        open_before = len(api.watches())
        began = fleet.now
        api.faults.cut_watches(abort=True)
        await fleet.calm()
        assert not fleet.between(began, fleet.now), "nobody comes back at once"
        await fleet.pass_time(2.0, step_s=0.1)
        assert len(api.watches()) == open_before, "all are back within the first backoff"
        returned = fleet.between(began, fleet.now)
        worst = fleet.worst(began, fleet.now)
        print(f"measured: {len(returned)} watches came back, at most {worst} in a tenth of a second")
        assert len(returned) == open_before, "each asked once"
        assert worst <= open_before / 4, "spread over the first backoff, not in step"
        assert not any(status.relists for status in fleet.statuses())


async def test_streams_that_fall_silent_are_asked_for_again_once_and_nothing_is_listed(
    api: FakeApiServer, tmp_path: Path
) -> None:
    defaults = WatchLimits()
    assert max(defaults.silence_s, defaults.answer_s) <= 180, "a silent hang is noticed within three minutes"
    async with Fleet(api, api.kubeconfig(tmp_path), GATEWAYS, limits=WatchLimits(silence_s=0.5)) as fleet:
        await fleet.synced()
        api.faults.bookmark()  # so that the streams are known to have lived
        had = len(api.watches())
        api.open_watches.bookmark_every_s = 0.1
        frozen = api.watches()
        api.faults.freeze_watches()
        began = fleet.now
        api.put(service("new"))
        noticed = len(frozen)
        wait = [status.errors for status in fleet.statuses()]
        await fleet.until(
            lambda: sum(now.errors > then for now, then in zip(fleet.statuses(), wait, strict=True)) >= noticed, "all notice"
        )
        await fleet.pass_time(2.0, step_s=0.1)
        assert fleet.know("Service", "new") == GATEWAYS
        assert len(fleet.between(began, fleet.now)) <= 2 * had
        assert not any(status.relists for status in fleet.statuses())
        api.faults.clear()


async def test_a_backup_with_older_versions_is_followed_back(api: FakeApiServer, tmp_path: Path) -> None:
    async with Fleet(api, api.kubeconfig(tmp_path), GATEWAYS) as fleet:
        await fleet.synced()
        backup = api.faults.backup()
        for number in range(50):
            api.put(service(f"later{number}"))
        await fleet.until(lambda: fleet.know("Service", "later49") == GATEWAYS, "all know the later ones")
        began = fleet.now
        api.faults.restore(backup)
        await fleet.calm()
        await fleet.pass_time(2.0, step_s=0.1)
        api.faults.bookmark()
        await fleet.calm()
        await fleet.pass_time(60.0)
        assert fleet.know("Service", "later49") == 0
        assert fleet.know("Service", "s0") == GATEWAYS
        made = Counter(request.plural for request in fleet.between(began, fleet.now))
        assert max(made.values()) <= 4 * GATEWAYS, made


def contexts(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("inline", [False, True])
async def test_certificate_authority_and_token_are_rotated(tmp_path: Path, inline: bool) -> None:
    """The authority lies in a file of its own, as in a pod, or within the kubeconfig."""
    first, second = trustme.CA(), trustme.CA()
    trusted = tmp_path / "ca.crt"

    async with FakeApiServer(token="one") as api:
        await api.stop()

        async def serve(authority: trustme.CA, token: str) -> Path:
            api.rotate_token(token)
            api.tls = contexts(authority)
            await api.start()
            pem = authority.cert_pem.bytes()
            trusted.write_bytes(pem)
            kubeconfig = api.kubeconfig(tmp_path)
            config = yaml.safe_load(kubeconfig.read_bytes())
            cluster = config["clusters"][0]["cluster"]
            if inline:
                cluster["certificate-authority-data"] = base64.b64encode(pem).decode()
            else:
                cluster["certificate-authority"] = str(trusted)
            kubeconfig.write_text(yaml.safe_dump(config))
            return kubeconfig

        api.put(service("s0"))
        kubeconfig = await serve(first, "one")
        async with Fleet(api, kubeconfig, GATEWAYS) as fleet:
            await fleet.synced()
            await api.stop()
            began = fleet.now
            await serve(second, "two")
            api.put(service("new"))
            await fleet.pass_time(120.0)
            assert fleet.know("Service", "new") == GATEWAYS, fleet.statuses()[0]
            made = Counter(request.plural for request in fleet.between(began, fleet.now))
            assert max(made.values()) <= 120, made
            assert not any(status.relists for status in fleet.statuses())


# --- under load -----------------------------------------------------------------------------------------------------------


def away(site: Site) -> Callable[[], None]:
    site.cluster.stop()
    site.gateway.wait_event("watching kubernetes fails")
    wait_for(lambda: site.metric("acmg_watch_errors_total", kind="Service") >= 3, "several attempts have failed")
    return site.cluster.start


def hung(site: Site) -> Callable[[], None]:
    site.cluster.do(lambda api: api.faults.freeze_watches())
    site.cluster.do(lambda api: api.faults.hang(count=None))

    def over(api: FakeApiServer) -> None:
        api.faults.clear()
        api.faults.cut_watches(abort=True)

    return lambda: site.cluster.do(over)


def restored(site: Site) -> Callable[[], None]:
    backup = site.cluster.do(lambda api: api.faults.backup())
    for number in range(30):
        site.put(destination_rule(f"later{number}"))
    wait_for(lambda: site.metric("acmg_watch_objects", kind="DestinationRule") == 30, "the later objects are known")
    site.cluster.do(lambda api: api.faults.restore(backup))
    wait_for(lambda: site.cluster.do(lambda api: len(api.watches("DestinationRule"))), "it watches again")
    site.cluster.do(lambda api: api.faults.bookmark())
    wait_for(lambda: site.metric("acmg_watch_objects", kind="DestinationRule") == 0, "the later objects are gone")
    return lambda: None


def rotated(site: Site) -> Callable[[], None]:
    site.cluster.do(lambda api: api.rotate_token("second"))
    site.cluster.api.kubeconfig(site.directory)
    site.cluster.do(lambda api: api.faults.cut_watches(abort=True))
    wait_for(lambda: site.cluster.do(lambda api: any(one.status == 401 for one in api.requests)), "the old one is refused")
    return lambda: None


def restarted(site: Site) -> Callable[[], None]:
    site.cluster.stop()
    site.cluster.start()
    return lambda: None


@pytest.mark.slow
@pytest.mark.parametrize("storm", [away, hung, restored, rotated, restarted], ids=lambda storm: storm.__name__)
def test_no_request_fails_meanwhile(site: Site, storm: Callable[[Site], Callable[[], None]]) -> None:
    first, second = site.pods.address(), site.pods.address()
    web = site.add_service("web", first)
    site.start()
    with Load(web.address, keepers=16, newcomers=4, pause_s=0.003) as load:
        over = storm(site)
        load.wait(3000)
        assert site.is_ready()
        assert load.bodies() == {first: len(load.answers)}
        over()
        began = time.monotonic()
        site.put_slice("web", endpoint(first), endpoint(second))
        wait_for(lambda: load.answers[-1].body == second or load.bodies(began)[second], "what changes is taken up again")
        back_s = time.monotonic() - began
        load.wait_for_total(10_000)
    print(f"measured: {storm.__name__}: {len(load.answers)} requests, back after {back_s:.1f} s")
    load.check(10_000)
    assert back_s < 25
