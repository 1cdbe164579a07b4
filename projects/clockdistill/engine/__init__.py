"""What the scripts of tools/ are made of; works with any detector and any registered dataset."""
