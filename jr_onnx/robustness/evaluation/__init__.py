"""Attacks on a hardened model and its original at equal effort, and what follows from them."""
