"""Models: detectors that know nothing of distillation, and the rooms that distil them."""
