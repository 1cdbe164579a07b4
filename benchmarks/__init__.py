"""Speed and memory compared with others' code, and with the least that the machine needs."""

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import
