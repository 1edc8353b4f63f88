"""How JumpReLU is written in ONNX: one table of forms, to write them and to recognise them."""
