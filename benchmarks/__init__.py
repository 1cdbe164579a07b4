"""Speed and memory compared with others' code, and with the least that the machine needs."""
