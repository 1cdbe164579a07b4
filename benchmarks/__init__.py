"""How fast the project is beside others' code, and beside the machine's own limit."""
