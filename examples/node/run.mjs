// Runs a hardened model in Node.js: node run.mjs MODEL SHAPE < numbers, for example
//
//     node run.mjs digits.jumprelu.onnx 1,1,8,8 < pixels.txt
//
// It prints the first output, a number a line. onnxruntime-node loads no custom-op libraries, and needs none: the
// function that the model carries defines JumpReLU.
import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";

const [model, shape] = process.argv.slice(2);
if (shape === undefined) {
  console.error("usage: node run.mjs MODEL SHAPE < numbers");
  process.exit(2);
}
const number = (word) => (word.endsWith("inf") ? (word[0] === "-" ? -Infinity : Infinity) : Number(word));
const values = readFileSync(0, "utf8").split(/\s+/).filter(Boolean).map(number);

const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
const input = new ort.Tensor("float32", Float32Array.from(values), shape.split(",").map(Number));
const outputs = await session.run({ [session.inputNames[0]]: input });
for (const value of outputs[session.outputNames[0]].data) console.log(Object.is(value, -0) ? "-0" : String(value));
