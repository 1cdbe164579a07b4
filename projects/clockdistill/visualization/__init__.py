"""Pictures of what a run did; imports nothing of ours."""
