"""The campaign: damaged and hostile input for every reader, kills at random moments; ``python -m tests.hostile``."""
