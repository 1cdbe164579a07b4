"""Metrics of detections against ground truth."""
