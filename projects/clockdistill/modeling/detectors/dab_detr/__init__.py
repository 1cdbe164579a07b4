"""DAB-DETR."""
