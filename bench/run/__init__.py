"""Engines that take turns, each in its own process."""
