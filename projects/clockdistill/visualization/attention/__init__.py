"""Where detectors look: attention and energy maps."""
