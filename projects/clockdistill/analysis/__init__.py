"""Measurements before a training: what a detector costs, and how large the losses are."""
