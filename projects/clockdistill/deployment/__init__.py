"""Detectors at work: prediction on pictures and videos, export, parity."""
