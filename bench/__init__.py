"""Measures engines: latency, memory and quality in one run. Shows what a machine can run."""
