"""How much time and memory hardened models take beside the model they came from."""
