"""Detectors, which know nothing of distillation, and the modules that distil them."""
