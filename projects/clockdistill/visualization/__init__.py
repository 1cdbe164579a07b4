"""Pictures of what a run did, and of what detectors look at."""
