"""The pages of evaluate and tune: they load nothing, hostile names stay text, and a browser draws them at any width."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from html_page import Page

import jr_onnx
from jr_onnx.robustness.attacks.target import Effort
from jr_onnx.robustness.dataset import load_data
from jr_onnx.robustness.evaluation.evaluate import evaluate
from jr_onnx.robustness.evaluation.report import Doubling, EvaluationReport
from jr_onnx.robustness.reporting import from_reports
from jr_onnx.robustness.reporting.contents import Bars, Chart, Contents, Picture, Series, Table
from jr_onnx.robustness.reporting.page import to_html, write_page, write_plots
from jr_onnx.robustness.statistics import Interval, proportion_interval
from jr_onnx.robustness.tuning.report import Confirmation, TuningReport

MODELS = Path(__file__).parents[3] / "models"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>@DATA@ @TITLE@"


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    """A black-box evaluation: quick, and without torch."""
    hardened = jr_onnx.convert(onnx.load(MODELS / "digits.onnx"), jump=0.8).model
    assert hardened is not None
    data = load_data(MODELS / "digits_test.npz").take(np.arange(64))
    return evaluate(
        MODELS / "digits.onnx",
        hardened,
        data,
        eps=[0.1, 0.3],
        attacks=["square"],
        effort=Effort(queries=60),
    )


def small(text: str = "text") -> Contents:
    shares = tuple(Interval(0.9 - x, 0.8 - x, 0.95 - x) for x in (0.0, 0.2, 0.4))
    series = Series(text, 1, shares), Series("one", 2, (None, shares[0], None), hollow=True)
    return Contents(
        title=text,
        words=text,
        tone="neutral",
        headline=text,
        evidence=(text,),
        facts=((text, text),),
        charts=(Chart("chart", text, text, (text, "b", "c"), series, (1, text), text),),
        bars=(Bars("bars", text, ((text, 0.5, text),), text),),
        tables=(Table(text, (text, "number"), ((text, "1.5"), (text, "2")), text),),
        gallery=((text, (Picture(text, (text,), np.zeros((2, 3, 3), np.uint8)),)),),
        command=text,
        caution=text,
    )


def test_the_page_loads_nothing_and_hostile_names_stay_text() -> None:
    text = to_html(small(EVIL))
    page = Page(text)
    assert page.loads == []
    assert len(page.scripts) == 2
    data = json.loads(page.scripts[0])
    assert data["headline"] == data["charts"][0]["title"] == data["gallery"][0]["title"] == EVIL
    assert "<img" not in text
    assert "<script>alert" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text.replace(page.scripts[0], ""))
    assert "innerHTML" not in page.scripts[1]
    assert "default-src 'none'" in text


def test_an_evaluation_is_told_with_its_verdict_first_and_the_command_that_made_it(report: EvaluationReport) -> None:
    contents = from_reports.evaluation_contents(report, "jr-onnx evaluate x.onnx")
    verdict = report.verdicts["hardened"]
    assert (contents.headline, contents.words) == (verdict.headline, verdict.words)
    assert contents.command == "jr-onnx evaluate x.onnx"
    (chart,) = contents.charts
    assert chart.places == ("0 (no attack)", "0.1", "0.3")
    shown = {series.name: [share and share.estimate for share in series.shares] for series in chart.series}
    assert shown["hardened, all attacks"] == [
        report.models["hardened"].clean_accuracy,
        *(report.models["hardened"].accuracy(eps) for eps in range(2)),
    ]
    (bars,) = contents.bars
    assert len(bars.rows) == 4
    assert all(0 < share < 1 and text == "jump 0.8" for _, share, text in bars.rows)
    assert contents.gallery
    for (_, pictures), example in zip(contents.gallery, report.examples, strict=True):
        assert len(pictures) == 1 + 2 * len(example.adversarials)
        assert pictures[0].pixels.shape == (8, 8, 1)
        assert np.array_equal(pictures[0].pixels[..., 0], np.round(example.pixels[0] * 255).astype(np.uint8))


def test_the_share_of_zeroed_activations_is_what_numpy_counts(report: EvaluationReport) -> None:
    """The first layer by hand: its input is the first convolution of the image."""
    model = onnx.load(MODELS / "digits.onnx")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(relu.input[0]))
    import onnxruntime

    images = np.load(MODELS / "digits_test.npz")["x"][:64]
    given = onnxruntime.InferenceSession(model.SerializeToString()).run([relu.input[0]], {"image": images})[0]
    expected = ((given > 0) & (given <= np.float32(0.8))).sum() / (given > 0).sum()
    assert report.zeroed["hardened"][0].share == pytest.approx(expected, abs=1e-4)


def test_what_survives_is_shown_as_the_effort_doubles(report: EvaluationReport) -> None:
    curves = {"original": (0.5, 0.5), "hardened": (0.5, 0.25, 0.25)}
    models = {
        name: replace(
            report.models[name], convergence=((), tuple(Doubling(2**n, share) for n, share in enumerate(curve)))
        )
        for name, curve in curves.items()
    }
    _, chart = from_reports.evaluation_contents(replace(report, models=models)).charts
    assert chart.title.endswith("at eps 0.3")
    assert chart.places == ("1 times", "2 times", "4 times")
    shown = {series.name: [share and share.estimate for share in series.shares] for series in chart.series}
    assert shown == {"original": [0.5, 0.5, None], "hardened": [0.5, 0.25, 0.25]}


@pytest.fixture(scope="module")
def tuned() -> TuningReport:
    return jr_onnx.tune(
        MODELS / "digits.onnx", load_data(MODELS / "digits_test.npz"), grid=[0.1, 0.3, 0.9], objective="clean"
    )


def test_a_tuning_is_told_with_its_trade_off(tuned: TuningReport) -> None:
    contents = from_reports.tuning_contents(tuned, "jr-onnx tune x.onnx")
    (chart,) = contents.charts
    assert chart.places == ("0", "0.1", "0.3", "0.9")
    assert [series.name for series in chart.series] == ["no attack"], "nothing is shown that was not measured"
    assert "No attack was run" in contents.caution
    assert contents.headline.lower() == f"{tuned.sentence}.".lower()
    assert tuned.chosen is not None
    assert chart.mark == (tuned.candidates.index(tuned.chosen), "chosen")
    to_html(contents)


def test_the_page_of_a_tuning_shows_the_jump_that_its_verdict_is_about(
    tuned: TuningReport, report: EvaluationReport
) -> None:
    """Jump 0.1 met jump 0 and was not worth it; 0.3, the largest within the budget, has no part in that."""
    tried = tuned.candidates[1]
    share, verdict = proportion_interval(9, 10), report.verdicts["hardened"]
    attacked = tuple(
        replace(one, true_gradient=share, adaptive=share) if one.within_budget else one for one in tuned.candidates
    )
    found = replace(
        tuned,
        eps=0.1,
        objective="adaptive",
        candidates=attacked,
        chosen=None,
        confirmation=Confirmation(tried.choice, share, share, verdict),
    )
    contents = from_reports.tuning_contents(found)
    assert (contents.words, contents.tone) == ("NO JUMP", "neutral")
    assert "jump 0.1, original jump 0" in contents.evidence[0]
    assert contents.evidence[1:] == verdict.evidence
    (bars,) = contents.bars
    assert bars.title.endswith("at jump 0.1")
    assert [made for _, made, _ in bars.rows] == [site.share for site in tried.zeroed]
    (chart,) = contents.charts
    assert chart.mark == (1, "tried on other samples, not chosen")
    assert [series.shares[3] is None for series in chart.series] == [False, True, True], "over the budget"
    nothing = from_reports.tuning_contents(replace(found, confirmation=None))
    assert (nothing.bars, nothing.charts[0].mark) == ((), None)


#: A page that shows another one in a frame of a given width, and says in its title how wide that one is.
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>addEventListener("load", () => {{ const inner = document.querySelector("iframe").contentDocument;
document.title = "wide " + inner.documentElement.scrollWidth
+ " charts " + inner.querySelectorAll("svg[role=img]").length
+ " points " + inner.querySelectorAll("svg[role=img] circle").length
+ " between " + inner.querySelectorAll("svg[role=img] :is(path, polyline):not(.mark)").length
+ " open " + inner.querySelectorAll("details[open]").length
+ " pictures " + inner.querySelectorAll("canvas").length + " says " + inner.querySelector(".headline").textContent; }});
</script>"""


def browse(page: Path, folder: Path) -> str:
    """The document after its scripts ran."""
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    home = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [str(CHROMIUM), *arguments, "--allow-file-access-from-files", "--window-size=1400,1000", page.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=home,
    )
    return result.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_the_page_without_scrolling_sideways(
    width: int, report: EvaluationReport, tmp_path: Path
) -> None:
    contents = from_reports.evaluation_contents(report, "jr-onnx evaluate " + "a-long-name/" * 20)
    write_page(contents, tmp_path / "page.html")
    (tmp_path / "frame.html").write_text(FRAME.format(page="page.html", width=width), encoding="utf-8")
    title = re.search(r"<title>(.*)</title>", browse(tmp_path / "frame.html", tmp_path))
    assert title is not None
    pictures = sum(1 + 2 * len(example.adversarials) for example in report.examples)
    headline = report.verdicts["hardened"].headline
    shown = "charts 1 points 12 between 0 open 0"  # two models, under two kinds of attack, at eps 0, 0.1 and 0.3
    assert title[1] == f"wide {width} {shown} pictures {pictures} says {headline}"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_hostile_names_as_text(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(to_html(small(EVIL)), encoding="utf-8")
    body = browse(tmp_path / "page.html", tmp_path).split("<main")[-1]
    assert "<img" not in body
    assert "&lt;script&gt;alert(1)" in body
    assert body.count('class="bar"') == 1


def test_plots_are_files_of_both_formats_and_the_same_for_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots as files need matplotlib: pip install 'jr-onnx[report]'")
    written = write_plots(small(), tmp_path / "one")
    assert [path.name for path in written] == ["chart.png", "chart.svg", "bars.png", "bars.svg"]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in written[1].read_bytes()
    again = write_plots(small(), tmp_path / "two")
    assert written[1].read_bytes() == again[1].read_bytes()


def test_without_matplotlib_plots_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(jr_onnx.RuntimeMissingError, match=r"pip install matplotlib"):
        write_plots(small(), tmp_path)


def test_an_unwritable_page_is_one_line(tmp_path: Path, report: EvaluationReport) -> None:
    with pytest.raises(jr_onnx.OutputError, match="cannot be written"):
        write_page(from_reports.evaluation_contents(report), tmp_path / "nowhere" / "page.html")
