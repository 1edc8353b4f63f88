"""A differentiable copy of an ONNX graph in torch, for attacks that need gradients. Needs the extra `attack`."""
