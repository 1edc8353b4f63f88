"""From a model to a hardened one: sites, plan, lowering, edits, report."""
