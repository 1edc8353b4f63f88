"""From a plan to edits of a model, which are carried out elsewhere: on a file's bytes, or on a graphsurgeon graph."""
