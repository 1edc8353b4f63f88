"""Adapters by which model servers run hardened models; each is imported by its server alone."""
