"""Comparisons of methods, and of training throughput."""
