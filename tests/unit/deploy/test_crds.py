# SPDX-License-Identifier: Apache-2.0
"""The CRDs: current, structural, and neither stricter nor laxer about types than the gateway."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import kubernetes_validate
import pytest
import re2
import yaml

from acmgproxy.ctl.manifests.crds import crds, main
from routing.resources import KINDS, Duration, ResourceError, decode
from tests.unit.deploy.kustomize import DEPLOY, ROOT, Object, documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in crds()}

SCHEMA_KEYS = {
    "type", "description", "properties", "required", "items", "additionalProperties", "enum", "format", "minimum", "maximum",
    "pattern", "nullable", "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
FORMATS = {"integer": {"int64"}, "number": {"double"}, "string": {"byte"}}


def _schema(kind: str, version: str = "v1") -> Object:
    (found,) = (one for one in CRDS[kind]["spec"]["versions"] if one["name"] == version)
    schema: Object = found["schema"]["openAPIV3Schema"]
    return schema


def _parts(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield every schema in a schema, with its path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _parts(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _parts(schema[key], f"{path}[]")


# --- current ----------------------------------------------------------------------------------------------------------------


def test_files_are_what_make_crds_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["crds", str(tmp_path)])
    main()
    written = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    there = {
        file.name: file.read_text(encoding="utf-8") for file in (DEPLOY / "crds").iterdir() if file.name != "kustomization.yaml"
    }
    assert written.keys() == there.keys()
    for name, text in written.items():
        assert there[name] == text, f"deploy/crds/{name} is not what routing reads: run `make crds`"


def test_every_istio_kind_that_is_read_has_one() -> None:
    assert set(CRDS) == {name for name, kind in KINDS.items() if ".istio.io/" in kind.api_versions[0]}


# --- what the API server asks of a CRD --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CRDS)
def test_crd_is_a_valid_object(kind: str) -> None:
    kubernetes_validate.validate(CRDS[kind], kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("kind", CRDS)
def test_versions_are_istios_and_v1_is_stored(kind: str) -> None:
    versions = CRDS[kind]["spec"]["versions"]
    older = ["v1alpha1"] if kind == "Telemetry" else ["v1beta1", "v1alpha3"]
    assert [(one["name"], one["served"], one["storage"]) for one in versions] == [
        ("v1", True, True),
        *((name, True, False) for name in older),
    ]
    assert tuple(f"{CRDS[kind]['spec']['group']}/{one['name']}" for one in versions) == KINDS[kind].api_versions
    assert all(one["schema"] == versions[0]["schema"] for one in versions), "nothing is converted"
    assert all(one["subresources"] == {"status": {}} for one in versions)


def test_names_are_istios() -> None:
    names = {crd["metadata"]["name"]: crd["spec"]["names"] for crd in CRDS.values()}
    assert {name: (one["singular"], one["shortNames"], one["listKind"]) for name, one in names.items()} == {
        "destinationrules.networking.istio.io": ("destinationrule", ["dr"], "DestinationRuleList"),
        "serviceentries.networking.istio.io": ("serviceentry", ["se"], "ServiceEntryList"),
        "telemetries.telemetry.istio.io": ("telemetry", ["telemetry"], "TelemetryList"),
        "virtualservices.networking.istio.io": ("virtualservice", ["vs"], "VirtualServiceList"),
    }
    for name, one in names.items():
        group = "telemetry" if one["kind"] == "Telemetry" else "networking"
        assert name == f"{one['plural']}.{group}.istio.io"
        assert one["categories"] == ["istio-io", f"{group}-istio-io"]


def test_columns_are_istios_and_show_fields_that_exist() -> None:
    titles = {}
    for kind, crd in CRDS.items():
        columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
        titles[kind] = [column["name"] for column in columns]
        for column in columns:
            assert column["jsonPath"] == ".metadata.creationTimestamp" or column["jsonPath"] in dict(_parts(_schema(kind)))
    assert titles == {
        "DestinationRule": ["Host", "Age"],
        "ServiceEntry": ["Hosts", "Location", "Resolution", "Age"],
        "Telemetry": ["Age"],
        "VirtualService": ["Gateways", "Hosts", "Age"],
    }


@pytest.mark.parametrize("kind", CRDS)
def test_schema_is_structural(kind: str) -> None:
    """Nothing but plain types, one at each level: no references, no junctors, no defaults, nothing that is forbidden in CRDs."""
    for path, part in _parts(_schema(kind)):
        assert not _defects(part), path


def test_schemas_that_are_not_structural_are_found() -> None:
    assert _defects({"type": "object", "$ref": "#/a"})
    assert _defects({"properties": {}})
    assert _defects({"type": "array"})
    assert _defects({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}})
    assert _defects({"type": "object", "properties": {}, "required": ["a"]})
    assert _defects({"type": "string", "format": "int64"})
    assert _defects({"type": "string", "enum": []})
    assert _defects({"type": "string", "default": "a"})


def _defects(part: Object) -> list[str]:
    kind = part.get("type", "")
    fields = {"properties", "additionalProperties", "required"} & set(part)
    rules = {
        "unknown keyword": set(part) <= SCHEMA_KEYS,
        "no type": kind in {"object", "array", "string", "boolean", "integer", "number"},
        "items": ("items" in part) == (kind == "array"),
        "fields": not fields or kind == "object",
        "properties and additionalProperties": not {"properties", "additionalProperties"} <= fields,
        "required": set(part.get("required", ())) <= set(part.get("properties", ())),
        "preserve": part.get("x-kubernetes-preserve-unknown-fields", True) is True,
        "format": part.get("format") in {None, *FORMATS.get(kind, ())},
        "enum": len(set(part.get("enum", ["one"]))) == len(part.get("enum", ["one"])) > 0,
    }
    return [rule for rule, holds in rules.items() if not holds]


@pytest.mark.parametrize("kind", CRDS)
def test_fields_that_are_not_read_are_kept(kind: str) -> None:
    for path, part in _parts(_schema(kind)):
        if part["type"] == "object" and path:
            assert part.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in part, path


@pytest.mark.parametrize(
    ("text", "is_duration"),
    [("1s", True), ("1.5h", True), (".5s", True), ("1m30s", True), ("100ms", True), ("5µs", True), ("0", True), ("0s", True),
     ("", False), ("1", False), ("s", False), ("1 s", False), ("-1s", False), ("1d", False), ("1s ", False)],
)  # fmt: skip
def test_durations_are_those_that_are_read(text: str, is_duration: bool) -> None:
    pattern = _schema("VirtualService")["properties"]["spec"]["properties"]["http"]["items"]["properties"]["timeout"]["pattern"]
    assert bool(re2.search(pattern, text)) is is_duration
    if is_duration:
        Duration.parse(text)
    else:
        with pytest.raises(ValueError, match="expected a duration"):
            Duration.parse(text)


# --- what they accept -------------------------------------------------------------------------------------------------------


def _as_json_schema(schema: Object) -> Object:
    """Return a schema in which `nullable` means what it means to the API server."""
    schema = copy.deepcopy(schema)
    for _, part in list(_parts(schema)):
        if part.pop("nullable", False):
            part["type"] = [part["type"], "null"]
    return schema


VALIDATORS = {kind: jsonschema_rs.validator_for(_as_json_schema(_schema(kind))) for kind in CRDS}


def _admitted(value: Any, schema: Object) -> Any:
    """Return what the API server validates: without the fields that are null and may not be."""
    if isinstance(value, dict):
        properties, values = schema.get("properties", {}), schema.get("additionalProperties", {})
        return {
            name: _admitted(one, properties.get(name, values))
            for name, one in value.items()
            if one is not None or name not in properties
        }
    if isinstance(value, list):
        return [_admitted(one, schema.get("items", {})) for one in value]
    return value


def _errors(obj: Object) -> list[str]:
    schema = _schema(obj["kind"])
    return [f"{error.instance_path}: {error.message}" for error in VALIDATORS[obj["kind"]].iter_errors(_admitted(obj, schema))]


def _is_istio(obj: object) -> bool:
    return isinstance(obj, dict) and str(obj.get("apiVersion")).startswith("networking.istio.io/") and obj.get("kind") in CRDS


def _in(value: Any) -> Iterator[Object]:
    """Yield the Istio objects anywhere in a document."""
    if _is_istio(value):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _in(one)


def _blocks(document: Path) -> Iterator[str]:
    """Yield the YAML blocks of a Markdown document."""
    for block in document.read_text(encoding="utf-8").split("```yaml\n")[1:]:
        yield block.partition("```")[0]


def _collected() -> Iterator[tuple[str, Object]]:
    for file in [*(ROOT / "tests" / "cases").glob("*.yaml"), *(DEPLOY / "samples").rglob("*.yaml")]:
        for obj in _in(documents(file)):
            yield file.name, obj
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in _blocks(file):
            for obj in _in(list(yaml.load_all(block, Loader=yaml.CSafeLoader))):
                yield file.name, obj


COLLECTED = list(_collected())


def test_there_is_something_to_try() -> None:
    count = Counter(obj["kind"] for _, obj in COLLECTED)
    assert count["VirtualService"] > 50
    assert count["DestinationRule"] > 20
    assert count["ServiceEntry"] > 2


def test_whatever_the_gateway_takes_is_accepted() -> None:
    taken = 0
    for origin, obj in COLLECTED:
        try:
            decode(obj)
        except ResourceError:
            continue
        taken += 1
        assert not _errors(obj), f"{origin}: {obj}"
    assert taken > 200


def _object(kind: str, spec: Object, version: str = "v1") -> Object:
    group = CRDS[kind]["spec"]["group"]
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "a"}, "spec": spec}


def _rule(**fields: Any) -> Object:
    return _object("VirtualService", {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}], **fields}]})


def _policy(**fields: Any) -> Object:
    return _object("DestinationRule", {"host": "a", "trafficPolicy": fields})


@pytest.mark.parametrize(
    "obj",
    [
        _rule(match=[{"headers": {"x-a": None, "x-b": {}}, "uri": {"exact": "/"}}], timeout="1.5s", name=None),
        _rule(fault={"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 0.5}}}, invented={"a": [1]}),
        _object("VirtualService", {"hosts": ["a"], "tcp": [{"route": [{"destination": {"host": "a"}}]}], "tls": [{}]}),
        _policy(tunnel={"protocol": "CONNECT"}, connectionPool={"http": {"http2MaxRequests": 4294967295}}),
        _object("ServiceEntry", {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http", "other": True}]}),
        _object("Telemetry", {"metrics": [{"overrides": []}], "tracing": [{"randomSamplingPercentage": 5, "customTags": {}}]}),
    ],
)
def test_fields_without_effect_and_nulls_are_accepted(obj: Object) -> None:
    assert not _errors(obj)
    decode(obj)


@pytest.mark.parametrize(
    "obj",
    [
        _object("VirtualService", {"hosts": "a"}),
        _object("VirtualService", {"hosts": ["a"], "http": {"route": []}}),
        _object("VirtualService", []),  # type: ignore[arg-type]
        _rule(route=[{"destination": {"subset": "v1"}}]),
        _rule(route=[{"destination": {"host": "a"}, "weight": "90"}]),
        _rule(route=[{"destination": {"host": "a"}, "weight": -1}]),
        _rule(route=[{"destination": {"host": "a", "port": {"number": 65536}}}]),
        _rule(timeout="soon"),
        _rule(timeout=5),
        _rule(match=[{"uri": {"exact": 5}}]),
        _rule(match=[{"sourceLabels": {"version": 1}}]),
        _rule(match=[{"ignoreUriCase": "yes"}]),
        _rule(fault={"delay": {"percentage": {"value": 101}}}),
        _rule(redirect={"redirectCode": 200}, route=[]),
        _rule(headers={"request": {"set": ["x-a"]}}),
        _policy(loadBalancer={"simple": "FASTEST"}),
        _policy(outlierDetection={"consecutive5xxErrors": -1}),
        _policy(connectionPool={"tcp": {"connectTimeout": "1"}}),
        _policy(portLevelSettings=[{"loadBalancer": {}}]),
        _object("DestinationRule", {"host": "a", "subsets": [{"labels": {"version": "v1"}}]}),
        _object("ServiceEntry", {"hosts": ["a.example"], "ports": [{"number": 0, "name": "http"}]}),
        _object("ServiceEntry", {"hosts": ["a.example"], "resolution": "MAGIC"}),
        _object("Telemetry", {"accessLogging": [{"match": {"mode": "BOTH"}}]}),
        _object("Telemetry", {"tracing": [{"randomSamplingPercentage": 101}]}),
        _object("Telemetry", {"targetRefs": [{"kind": "Service"}]}),
    ],
    ids=str,
)
def test_wrong_types_are_refused_here_as_by_the_gateway(obj: Object) -> None:
    assert _errors(obj)
    with pytest.raises(ResourceError):
        decode(obj)
