"""What tools/train_net.py is composed of; works on any detector and any registered dataset."""
