"""Ray against one process."""
