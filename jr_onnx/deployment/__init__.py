"""From a hardened model to a folder that a model server starts from."""
