"""Torch modules of binary networks for dense prediction."""
