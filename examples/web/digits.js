// Both models answer as one draws. onnxruntime-web loads no custom-op libraries, and needs none: the function that the
// hardened model carries defines JumpReLU.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const SIZE = 8; // the models take images of 8 x 8 pixels, from 0 (black) to 1
const MODELS = { original: "digits.onnx", hardened: "digits.jumprelu.onnx" };

const canvas = document.getElementById("drawing");
const state = document.getElementById("state");
const context = canvas.getContext("2d", { willReadFrequently: true });
const sessions = {};

/** The drawing as float32 [1, 1, 8, 8]: the mean brightness of each of 64 squares. */
function pixels() {
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const image = new Float32Array(SIZE * SIZE);
  const [width, height] = [canvas.width / SIZE, canvas.height / SIZE];
  for (let y = 0; y < canvas.height; ++y)
    for (let x = 0; x < canvas.width; ++x)
      image[Math.floor(y / height) * SIZE + Math.floor(x / width)] += data[4 * (y * canvas.width + x)] / 255;
  return image.map((sum) => sum / (width * height));
}

async function answer() {
  const image = new ort.Tensor("float32", pixels(), [1, 1, SIZE, SIZE]);
  for (const [name, session] of Object.entries(sessions)) {
    const { logits } = await session.run({ image });
    const exponents = Array.from(logits.data, (logit) => Math.exp(logit - Math.max(...logits.data)));
    const best = exponents.indexOf(Math.max(...exponents));
    const share = exponents[best] / exponents.reduce((sum, value) => sum + value);
    const row = document.getElementById(name);
    row.querySelector(".digit").textContent = best;
    row.querySelector(".probability").textContent = share.toFixed(3);
  }
}

let last = Promise.resolve();
const update = () => (last = last.then(answer)); // a session runs one request at a time

let before = null;
canvas.addEventListener("pointerdown", (event) => (before = [event.offsetX, event.offsetY]));
window.addEventListener("pointerup", () => (before = null));
canvas.addEventListener("pointermove", (event) => {
  if (before === null) return;
  context.strokeStyle = "#fff";
  context.lineWidth = 44; // strokes of one to two pixels of the 8 x 8, as in the training images
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...before);
  before = [event.offsetX, event.offsetY];
  context.lineTo(...before);
  context.stroke();
  update();
});

document.getElementById("clear").addEventListener("click", () => {
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const cell of document.querySelectorAll(".digit, .probability")) cell.textContent = "";
});

ort.env.wasm.numThreads = 1; // more need the page to be cross-origin isolated
for (const [name, file] of Object.entries(MODELS)) sessions[name] = await ort.InferenceSession.create(file);
state.textContent = "ready";
