"""Clocks and figures: latency, quality, fidelity. Knows no report."""
