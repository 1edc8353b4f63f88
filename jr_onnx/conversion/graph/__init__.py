"""Reading a graph: its scopes, its edges, its names, the types of its values, and whether it is one at all."""
