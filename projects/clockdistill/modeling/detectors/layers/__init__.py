"""Building blocks of the detectors: attention, feed-forward, position encoding, box code."""
