"""Proofs: that a Structure is true of a model, and the Structure of a model that has none."""
