"""Gradients of a classifier: an ONNX model again, which onnxruntime runs."""
