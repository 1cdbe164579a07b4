"""Deformable-DETR."""
