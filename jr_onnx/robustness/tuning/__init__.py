"""Choosing the jump on validation data: within a budget of clean accuracy, by what is left under adaptive attacks."""
