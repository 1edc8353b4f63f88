"""Put JumpReLU in place of ReLU in an exported ONNX model."""

__version__ = "0.1.0"
