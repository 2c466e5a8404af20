# SPDX-License-Identifier: Apache-2.0
"""The sample's files and the demo's copy of them."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from acmgproxy.demo import sample as sample_module
from acmgproxy.demo.sample import Place, SampleError, claim_place, sample_directory, write_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACE = Place(network="127.77.1.", port=6001)


def _objects(*files: Path) -> dict[tuple[str, str], Any]:
    documents = [document for file in files for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def _weights(directory: Path) -> list[int]:
    route = _objects(directory / "routing.yaml")["VirtualService", "helloworld"]["spec"]["http"][0]["route"]
    return [destination["weight"] for destination in route]


def test_copy_in_the_samples_own_place_is_the_sample(tmp_path: Path) -> None:
    copy = write_sample(tmp_path / "copy", Place(network="127.0.10.", port=5000))
    for file in copy.directory.iterdir():
        assert file.read_text() == (sample_directory() / file.name).read_text()


def test_copy_moves_as_a_whole(tmp_path: Path) -> None:
    copy = write_sample(tmp_path / "copy", PLACE)
    objects = _objects(*copy.directory.iterdir())
    service = objects["Service", "helloworld"]["spec"]
    slice_ = objects["EndpointSlice", "helloworld-a"]
    addresses = [endpoint["addresses"][0] for endpoint in slice_["endpoints"]]
    assert (service["clusterIP"], service["ports"][0]["port"]) == ("127.77.1.1", 6001)
    assert copy.url == "http://127.77.1.1:6001/hello"
    assert copy.admin == "127.77.1.2:6001"
    assert [(server.address, server.port) for server in copy.servers] == [(address, 6001) for address in addresses]
    assert slice_["ports"][0]["port"] == 6001
    for server in copy.servers:
        pod = objects["Pod", server.instance]
        assert pod["status"]["podIP"] == server.address
        assert pod["metadata"]["labels"]["version"] == server.version


def test_weights_are_rewritten_any_number_of_times(tmp_path: Path) -> None:
    copy = write_sample(tmp_path / "copy", PLACE)
    assert _weights(copy.directory) == [90, 10]
    for weights in ([50, 50], [0, 100], [90, 10]):
        copy.set_weights(*weights)
        assert _weights(copy.directory) == weights
    assert (copy.directory / "routing.yaml").read_text() == (sample_directory() / "routing.yaml").read_text()
    assert len(list(copy.directory.iterdir())) == 3


def test_cluster_manifest_has_what_a_laptop_makes_by_hand() -> None:
    cluster = _objects(*sample_directory().with_name("helloworld").iterdir())
    local = _objects(sample_directory() / "service.yaml", sample_directory() / "endpoints.yaml")
    service = local["Service", "helloworld"]["spec"]
    assert cluster["Service", "helloworld"]["spec"] == {key: value for key, value in service.items() if key != "clusterIP"}
    for version in ("v1", "v2"):
        deployment = cluster["Deployment", f"helloworld-{version}"]["spec"]
        pods = [pod for pod in local.values() if pod["metadata"].get("labels", {}).get("version") == version]
        assert len(pods) == deployment["replicas"]
        assert all(pod["metadata"]["labels"] == deployment["template"]["metadata"]["labels"] for pod in pods)


def test_routing_is_the_same_in_a_cluster_and_on_a_laptop() -> None:
    laptop = sample_directory() / "routing.yaml"
    assert sample_directory().with_name("helloworld").joinpath("routing.yaml").read_text() == laptop.read_text()


def test_two_demos_never_get_the_same_place() -> None:
    with claim_place() as first, claim_place() as second:
        assert first != second
        assert not set(first.addresses) & set(second.addresses) or first.port != second.port


def test_place_with_a_busy_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with _busy_network() as (network, port):
        busy = Place(network=network, port=port)
        free = Place(network="127.0.0.", port=0)
        monkeypatch.setattr(sample_module, "_candidates", lambda: iter((busy, free)))
        with claim_place() as place:
            assert place is free


def test_no_free_place_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, "_candidates", lambda: iter(()))
    with pytest.raises(SampleError, match="no free loopback addresses"), claim_place():
        pass


def test_missing_sample_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample_module, "__file__", str(tmp_path / "acmgproxy" / "demo" / "sample.py"))
    with pytest.raises(SampleError, match="missing"):
        sample_directory()


@contextlib.contextmanager
def _busy_network() -> Iterator[tuple[str, int]]:
    """A network of this process's own in which somebody listens on the Service's address."""
    network = f"127.{os.getpid() >> 8 & 127 | 64}.{os.getpid() & 255}."
    with socket.socket() as listener:
        listener.bind((f"{network}1", 0))
        listener.listen()
        yield network, listener.getsockname()[1]
