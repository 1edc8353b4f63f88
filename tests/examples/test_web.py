"""examples/web in headless Chromium: a digit is drawn with the mouse's events, and both models answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from example_programs import EXAMPLES
from support import MODELS, Array

sys.path.append(str(EXAMPLES.parent / "tools"))
from headless import chromium, run_script

pytestmark = pytest.mark.slow

#: Where the page's slider stands at first.
JUMP = np.array(0.5, np.float32)

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
const captions = Array.from(page.querySelectorAll("figcaption"), (caption) => caption.textContent);
send(JSON.stringify({ answers: answers(), captions, red: Array.from(data).filter((_, i) => i % 4 === 0) }));
"""


def test_a_drawn_digit_is_answered_by_both_models_as_in_python(npm_example: Callable[[str], Path]) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("there is no Chromium here")
    folder = npm_example("web")
    subprocess.run([sys.executable, "prepare.py", MODELS / "digits.onnx"], cwd=folder, check=True)
    sent = run_script(browser, SCRIPT, {"": folder})
    assert not sent.startswith("error"), sent
    result = json.loads(sent)

    drawing: Array = np.array(result["red"], np.float32).reshape(8, 32, 8, 32).mean(axis=(1, 3)) / 255
    assert drawing.max() > 0.5
    image = {"image": drawing.reshape(1, 1, 8, 8).astype(np.float32)}
    models = {"original": ("digits.onnx", image), "hardened": ("digits.jumprelu.onnx", {**image, "jump": JUMP})}
    assert [row[0] for row in result["answers"]] == list(models)
    for (_, digit, probability), (name, feeds) in zip(result["answers"], models.values(), strict=True):
        logits, *read = onnxruntime.InferenceSession(folder / name).run(None, feeds)
        share = np.exp(logits[0] - logits.max()) / np.exp(logits[0] - logits.max()).sum()
        assert int(digit) == logits.argmax()
        assert float(probability) == pytest.approx(share.max(), abs=2e-3)
    counted = [tuple(map(int, re.findall(r"makes (\d+) of (\d+)", caption)[0])) for caption in result["captions"]]
    assert len(counted) == 4
    for (zeroed, positive), value in zip(counted, read, strict=True):
        # A value that lies at the jump or at 0 may fall to either side: wasm rounds in another order.
        assert zeroed == pytest.approx(((value > 0) & (value <= JUMP)).sum(), abs=2)
        assert positive == pytest.approx((value > 0).sum(), abs=2)
