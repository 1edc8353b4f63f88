"""Whether a hardened model is exactly the original with JumpReLU in place of Relu, and whether it runs so."""
