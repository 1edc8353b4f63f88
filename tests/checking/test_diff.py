"""`jr-onnx diff`: what differs, as a table and as a page that needs nothing but a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from checking import broken, hardened, node, small
from damage import edit_weight, rename_a_node, swap_inputs
from html_page import Page
from support import SHIPPED, TARGETS
from support import node as make_node

import jr_onnx
from jr_onnx.checking.diff import to_html
from jr_onnx.cli.main import main

#: ONNX and the domain f.
OPSETS = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("f", 1)]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


def test_a_conversion_shows_every_site_with_its_jump_and_what_came_with_it() -> None:
    report = jr_onnx.diff(small(), hardened())
    shown = [(site.path, site.before, site.jump_before, site.after, site.jump_after) for site in report.sites]
    paths = ("one", "two", "branch/then_branch/three", "local::F/four")
    assert shown == [(path, "Relu", None, "JumpReLU", "0.5") for path in paths]
    kinds = {change.kind for change in report.others}
    assert kinds == {"jr_onnx metadata", "opset import", "body of JumpReLU", "initializer", "nodes"}
    assert [change.node for change in report.others if change.kind == "nodes"] == ["local::F/Constant#0"]


def test_other_jumps_are_shown_with_those_before() -> None:
    report = jr_onnx.diff(hardened(), hardened(jump=0.25))
    assert {(site.jump_before, site.jump_after) for site in report.sites} == {("0.5", "0.25")}
    report = jr_onnx.diff(hardened(target="standard"), hardened(target="standard", jump=(0.25)))
    assert {(site.before, site.jump_before, site.jump_after) for site in report.sites} == {
        ("ThresholdedRelu", "0.5", "0.25")
    }


@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
def test_a_jump_is_shown_as_it_was_given_and_not_as_its_type_rounds_it(options: dict[str, Any]) -> None:
    report = jr_onnx.diff(hardened(jump=0.7, **options), hardened(jump=0.3, **options))
    assert {(site.jump_before, site.jump_after) for site in report.sites} == {("0.7", "0.3")}
    jumps = {(change.before, change.after) for change in report.others if change.kind == "jump"}
    # A HardSigmoid holds -2^100 times the jump.
    assert jumps - {("0.7", "0.3")} == set() or "hard-sigmoid" in options.values()
    report = jr_onnx.check(hardened(jump=0.7, **options), hardened(jump=0.3, **options), jump=0.7, run=False)
    assert {site.jump for site in report.sites} == {"0.3"}


@pytest.mark.parametrize(
    ("change", "kind"), [(edit_weight, "weights"), (swap_inputs, "edge"), (rename_a_node, "name of a node")]
)
def test_what_else_differs_is_listed(change: Any, kind: str) -> None:
    report = jr_onnx.diff(hardened(), broken(change))
    assert not report.sites
    assert [one.kind for one in report.others] == [kind]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_model_does_not_differ_from_itself(path: Path) -> None:
    report = jr_onnx.diff(path, path)
    assert not report.sites
    assert not report.others


def test_the_command_prints_a_table_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(small(), "a.onnx")
    onnx.save(hardened(), "b.onnx")
    assert main(["diff", "a.onnx", "b.onnx", "--html", "d.html"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^branch/then_branch/three +float +Relu +- +JumpReLU +0.5$", shown, re.MULTILINE)
    assert "4 sites changed" in shown
    assert (tmp_path / "d.html").stat().st_size > 10_000
    assert main(["diff", "a.onnx", "b.onnx", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["sites"]) == 4
    assert main(["diff", "a.onnx", "nowhere.onnx"]) == 2
    assert "nowhere.onnx: no such file" in capsys.readouterr().err
    assert main(["diff", "a.onnx", "b.onnx", "--html", "nowhere/d.html"]) == 2


def test_the_page_loads_nothing_and_hostile_names_stay_text() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>@DATA@"
    model = small()
    node(model, "two").name = evil
    text = to_html(jr_onnx.diff(model, hardened(model)))
    page = Page(text)
    assert page.loads == []
    assert len(page.scripts) == 2
    data = json.loads(page.scripts[0])
    assert data["sites"][1]["path"] == evil
    assert "alert(1)" not in text.replace(page.scripts[0], "")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text.replace(page.scripts[0], ""))
    assert "innerHTML" not in page.scripts[1]


def chain(sites: int) -> onnx.ModelProto:
    """Four nodes a site."""
    nodes, value = [], "x"
    for number in range(sites):
        names = [f"{letter}{number}" for letter in "abcd"]
        nodes += [
            onnx.helper.make_node("Mul", [value, value], [names[0]], name=f"/layer{number}/mul"),
            onnx.helper.make_node("Relu", [names[0]], [names[1]], name=f"/layer{number}/relu"),
            onnx.helper.make_node("Neg", [names[1]], [names[2]], name=f"/layer{number}/neg"),
            onnx.helper.make_node("Add", [names[1], names[2]], [names[3]], name=f"/layer{number}/add"),
        ]
        value = names[3]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("x", value)]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_ten_thousand_nodes_are_compared_and_fit_a_page() -> None:
    model = chain(2500)
    report = jr_onnx.diff(model, hardened(model, target="subgraph"))
    assert len(report.sites) == 2500
    assert len(to_html(report)) < 4_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("sites", [3, 2500])
def test_a_browser_draws_the_page(sites: int, tmp_path: Path) -> None:
    model = chain(sites)
    page = tmp_path / "d.html"
    page.write_text(to_html(jr_onnx.diff(model, hardened(model))), encoding="utf-8")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [str(CHROMIUM), *arguments, page.as_uri()], check=True, capture_output=True, text=True, timeout=120, env=home
    )
    body = result.stdout.split('id="data"')[0]
    assert body.count("<svg") == 2, "before and after"
    assert "jump 0.5" in body
    rows = body.count('class="row')
    assert 0 < rows <= min(sites, 60), "only the rows in sight are elements"


# --- pairs that are easily mistaken -----------------------------------------------------------------------------------


def test_a_missing_model_is_named_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(small(), tmp_path / "a.onnx")
    nowhere = tmp_path / "nowhere.onnx"
    for pair in ([tmp_path / "a.onnx", nowhere], [nowhere, tmp_path / "a.onnx"]):
        assert main(["diff", *map(str, pair)]) == 2
        assert capsys.readouterr().err == f"jr-onnx diff: {nowhere}: no such file\n"


def test_a_graph_that_is_not_sound_is_named_with_its_own_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = small()
    damaged.graph.node[0].input[0] = "from nowhere"
    onnx.save(damaged, tmp_path / "a.onnx")
    onnx.save(small(), tmp_path / "b.onnx")
    assert main(["diff", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"jr-onnx diff: {tmp_path / 'a.onnx'}: ")
    assert "b.onnx" not in err


def test_the_page_never_takes_the_place_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in paths:
        onnx.save(small(), path)
    before = paths[1].read_bytes()
    assert main(["diff", *map(str, paths), "--html", str(paths[1])]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert paths[1].read_bytes() == before


def test_functions_in_another_order_are_compared_by_name() -> None:
    def two(negate: bool) -> onnx.ModelProto:
        nodes = [
            ("F", [make_node("Relu", "a", "b", "r")]),
            ("G", [make_node("Neg" if negate else "Abs", "a", "b", "n")]),
        ]
        functions = [onnx.helper.make_function("f", name, ["a"], ["b"], body, OPSETS[:1]) for name, body in nodes]
        calls = [make_node("F", "x", "h", "c", domain="f"), make_node("G", "h", "y", "d", domain="f")]
        types = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
        graph = onnx.helper.make_graph(calls, "g", types[:1], types[1:])
        return onnx.helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=8)

    before, after = two(negate=False), two(negate=True)
    after.functions.reverse()
    (change,) = jr_onnx.diff(before, after).others
    assert (change.kind, change.node, change.before, change.after) == ("operator", "f::G/n", "Abs", "Neg")


def test_a_nan_is_the_same_as_itself_and_zero_is_not_minus_zero() -> None:
    def constant(values: list[float], documentation: str) -> onnx.ModelProto:
        tensor = onnx.TensorProto(name="k", data_type=1, dims=[2], float_data=values, doc_string=documentation)
        types = [onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
        graph = onnx.helper.make_graph([make_node("Add", "x k", "y", "add")], "g", types[:1], types[1:], [tensor])
        return onnx.helper.make_model(graph, opset_imports=OPSETS[:1], ir_version=8)

    def kinds(one: onnx.ModelProto, other: onnx.ModelProto) -> list[str]:
        return [change.kind for change in jr_onnx.diff(one, other).others]

    assert kinds(constant([float("nan"), 1], ""), constant([float("nan"), 1], "words")) == ["other"]
    assert kinds(constant([0.0, 1], ""), constant([-0.0, 1], "")) == ["weights"]


def test_nodes_without_an_output_are_paired_with_themselves() -> None:
    def printing(text: str) -> onnx.ModelProto:
        model = small()
        domains = ("first", text)
        model.graph.node.extend(onnx.helper.make_node("Print", ["x"], [], name, domain="cust") for name in domains)
        model.opset_import.append(onnx.helper.make_opsetid("cust", 1))
        return model

    assert not jr_onnx.diff(printing("second"), printing("second")).others
    (change,) = jr_onnx.diff(printing("second"), printing("third")).others
    assert change.kind == "name of a node"


def test_a_threshold_of_unknown_type_has_no_jump_to_show() -> None:
    types = [onnx.ValueInfoProto(name=name) for name in "xy"]
    nodes = [
        make_node("Inverse", "x", "h", "i", domain="com.microsoft"),
        make_node("ThresholdedRelu", "h", "y", "t", alpha=0.5),
    ]
    nodes[1].metadata_props.append(onnx.StringStringEntryProto(key="jr_onnx.form", value="ThresholdedRelu"))
    graph = onnx.helper.make_graph(nodes, "g", types[:1], types[1:])
    imports = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
    assert not jr_onnx.diff(model, model).sites
