"""How long a test waits for a process: not a measure of how fast it is, but the end of one that hangs."""

PATIENCE_S = 500
"""Less than ``faulthandler_timeout`` in pyproject.toml, which would end all tests."""
