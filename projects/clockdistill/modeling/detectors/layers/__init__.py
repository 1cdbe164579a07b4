"""Layers that the detectors share."""
