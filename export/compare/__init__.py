"""Outputs of two networks, compared on the same images."""
