"""The fastest exact form of a hardened model: laid out and fused by onnxruntime as its original would be.

hardened file -> recovered original -> onnxruntime's own optimised graph -> JumpReLU behind what was fused -> file
"""
