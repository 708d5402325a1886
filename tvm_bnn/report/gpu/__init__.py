"""The reports of an NVIDIA GPU: its ceilings, kernels and networks, with the figures of that machine alone."""
