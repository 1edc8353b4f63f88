"""Writes the two models of the page: python prepare.py ../../models/digits.onnx

The hardened one takes its jump as an input, and gives what each JumpReLU reads, beside its answer.
"""

import sys

import onnx

import jr_onnx

model = onnx.load(sys.argv[1])
onnx.save(model, "digits.onnx")
hardened = jr_onnx.convert(model, jump=0.5, jump_input="jump").model
# onnxruntime-web refuses values for inputs that have a default, so the jump gets none.
(default,) = (tensor for tensor in hardened.graph.initializer if tensor.name == "jump")
hardened.graph.initializer.remove(default)
sites = [node for node in hardened.graph.node if node.op_type == "JumpReLU"]
hardened.graph.output.extend(onnx.ValueInfoProto(name=node.input[0]) for node in sites)
onnx.save(hardened, "digits.jumprelu.onnx")
