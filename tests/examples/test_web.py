"""examples/web in headless Chromium: a digit is drawn with the mouse's events, and both models answer."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from example_programs import EXAMPLES
from support import MODELS, Array

import jr_onnx

sys.path.append(str(EXAMPLES.parent / "tools"))
from headless import chromium, run_script

pytestmark = pytest.mark.slow

#: Draws a one with three strokes, waits until both models have answered, and sends the drawing and the answers.
SCRIPT = """
const frame = document.createElement("iframe");
frame.src = "/index.html";
frame.width = frame.height = 800;
document.body.append(frame);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
await new Promise((resolve) => frame.addEventListener("load", resolve));
const page = frame.contentDocument;
while (page.getElementById("state").textContent !== "ready") await pause(50);

const canvas = page.getElementById("drawing");
const corner = canvas.getBoundingClientRect();
const at = (type, x, y) => canvas.dispatchEvent(new frame.contentWindow.PointerEvent(
  type, { clientX: corner.left + canvas.clientLeft + x, clientY: corner.top + canvas.clientTop + y, bubbles: true }));
at("pointerdown", 128, 20);
for (let y = 20; y <= 236; y += 12) at("pointermove", 128, y);
at("pointerup", 128, 236);

const answers = () => Array.from(page.querySelectorAll("tr[id]"), (row) => [
  row.id, row.querySelector(".digit").textContent, row.querySelector(".probability").textContent]);
let seen = "";
for (let same = 0; same < 5;) {
  await pause(100);
  const now = JSON.stringify(answers());
  same = now === seen && answers().every((row) => row[1] !== "") ? same + 1 : 0;
  seen = now;
}
const data = canvas.getContext("2d").getImageData(0, 0, 256, 256).data;
send(JSON.stringify({ answers: answers(), red: Array.from(data).filter((_, i) => i % 4 === 0) }));
"""


def test_a_drawn_digit_is_answered_by_both_models_as_in_python(
    npm_example: Callable[[str], Path], digits: Path
) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("there is no Chromium here")
    folder = npm_example("web")
    shutil.copy(MODELS / "digits.onnx", folder)
    shutil.copy(digits, folder)
    sent = run_script(browser, SCRIPT, {"": folder})
    assert not sent.startswith("error"), sent
    result = json.loads(sent)

    drawing: Array = np.array(result["red"], np.float32).reshape(8, 32, 8, 32).mean(axis=(1, 3)) / 255
    assert drawing.max() > 0.5
    models = {"original": MODELS / "digits.onnx", "hardened": digits}
    assert [row[0] for row in result["answers"]] == list(models)
    for (_, digit, probability), path in zip(result["answers"], models.values(), strict=True):
        session = onnxruntime.InferenceSession(path)
        logits = session.run(None, {"image": drawing.reshape(1, 1, 8, 8).astype(np.float32)})[0][0]
        share = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert int(digit) == logits.argmax()
        assert float(probability) == pytest.approx(share.max(), abs=2e-3)


def test_the_page_names_the_models_that_its_readme_makes(digits: Path) -> None:
    text = (EXAMPLES / "web" / "digits.js").read_text()
    assert f'"{digits.name}"' in text
    assert jr_onnx.convert(MODELS / "digits.onnx", jump=0.5, dry_run=True).output == MODELS / digits.name
