"""Proofs: lower bounds on what any network can reach, their evidence and its check."""
