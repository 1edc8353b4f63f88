"""An ONNX file as a skeleton, spliced and written: tensor payloads are neither parsed nor held in memory."""
