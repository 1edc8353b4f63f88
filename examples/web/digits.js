// Both models answer as one draws. onnxruntime-web loads no custom-op libraries, and needs none: the function that the
// hardened model carries defines JumpReLU.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";

const SIZE = 8; // the models take images of 8 x 8 pixels, from 0 (black) to 1
const MODELS = { original: "digits.onnx", hardened: "digits.jumprelu.onnx" };
const ZERO = [32, 36, 44], JUMPED = [247, 144, 9], PASSED = [71, 205, 137];

const canvas = document.getElementById("drawing");
const state = document.getElementById("state");
const slider = document.getElementById("jump");
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
  const jump = Number(slider.value);
  for (const [name, session] of Object.entries(sessions)) {
    const jumps = name === "hardened" ? { jump: new ort.Tensor("float32", [jump], []) } : {};
    const { logits, ...read } = await session.run({ image, ...jumps });
    const exponents = Array.from(logits.data, (logit) => Math.exp(logit - Math.max(...logits.data)));
    const best = exponents.indexOf(Math.max(...exponents));
    const share = exponents[best] / exponents.reduce((sum, value) => sum + value);
    const row = document.getElementById(name);
    row.querySelector(".digit").textContent = best;
    row.querySelector(".probability").textContent = share.toFixed(3);
    Object.entries(read).forEach(([site, tensor], layer) => show(site, tensor, layer, jump));
  }
}

/** What one JumpReLU reads, [1, C, H, W] or [1, C]: a square a channel, in rows. */
function show(site, tensor, layer, jump) {
  const [, channels, height = 1, width = 1] = tensor.dims;
  const columns = Math.min(channels, height > 1 ? 16 : 64);
  const rows = Math.ceil(channels / columns);
  const gap = height > 1 ? 1 : 0;
  const image = new ImageData(columns * (width + gap), rows * (height + gap));
  let jumped = 0, positive = 0;
  tensor.data.forEach((value, i) => {
    const channel = Math.floor(i / (height * width));
    const y = Math.floor(channel / columns) * (height + gap) + Math.floor(i / width) % height;
    const x = (channel % columns) * (width + gap) + i % width;
    jumped += value > 0 && value <= jump;
    positive += value > 0;
    image.data.set([...(value > jump ? PASSED : value > 0 ? JUMPED : ZERO), 255], 4 * (y * image.width + x));
  });
  const figure = document.getElementById(site) ?? document.getElementById("sites").appendChild(figureOf(site));
  const drawn = figure.querySelector("canvas");
  [drawn.width, drawn.height] = [image.width, image.height];
  drawn.getContext("2d").putImageData(image, 0, 0);
  figure.querySelector("figcaption").textContent =
    `Relu ${layer + 1} reads ${site}, ${channels} channels: the jump makes ${jumped} of ${positive} positive values zero`;
}

function figureOf(site) {
  const figure = document.createElement("figure");
  figure.id = site;
  figure.append(document.createElement("figcaption"), document.createElement("canvas"));
  return figure;
}

let last = Promise.resolve();
// A session runs one request at a time.
const update = () => (last = last.then(answer).catch((error) => (state.textContent = error.message)));

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

slider.addEventListener("input", () => {
  document.getElementById("value").textContent = slider.value;
  update();
});

document.getElementById("clear").addEventListener("click", () => {
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const cell of document.querySelectorAll(".digit, .probability")) cell.textContent = "";
  document.getElementById("sites").replaceChildren();
});

ort.env.wasm.numThreads = 1; // more need the page to be cross-origin isolated
for (const [name, file] of Object.entries(MODELS)) sessions[name] = await ort.InferenceSession.create(file);
state.textContent = "ready";
