"""What differs between two models, field by field and node by node; payloads aside."""
