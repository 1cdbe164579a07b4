"""The paper's tables, run and written by `tools/reproduce.py`."""
