"""Parts of tools/train_net.py, which work with any detector and any registered dataset."""
