"""The fastest exact form of a hardened model: laid out and fused by onnxruntime as its original would be."""
