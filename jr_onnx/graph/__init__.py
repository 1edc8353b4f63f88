"""Reading a graph: its scopes, its edges, the types of its values, and whether it is one at all."""
