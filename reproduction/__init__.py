"""The paper's tables, run and written anew: what tools/reproduce.py is made of."""
