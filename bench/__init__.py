"""Measures engines: latency, memory and quality in one run, and the report; and tells what a machine can run."""
