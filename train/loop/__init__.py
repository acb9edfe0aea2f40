"""One training run, and what it leaves on disk."""
