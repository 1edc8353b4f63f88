"""What differs between two models, for people."""
