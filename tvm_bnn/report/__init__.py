"""Measured comparisons: this machine's limits, the compiled networks, and what else a user could run them with."""
