"""Pictures of what a run did; imports nothing else of this project."""
