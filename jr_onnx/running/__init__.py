"""Running models of any kind: in one way or another, on inputs that fit, and as copies that show what is inside."""
