"""An ONNX file read as a skeleton and written by splicing: tensor payloads are neither parsed nor held in memory."""
