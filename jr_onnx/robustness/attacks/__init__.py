"""Attacks on a classifier: the paper's, those that adapt to JumpReLU, and black-box ones."""
