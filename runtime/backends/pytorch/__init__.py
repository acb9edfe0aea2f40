"""Checkpoints in torch."""
