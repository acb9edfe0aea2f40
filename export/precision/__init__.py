"""Which layer computes in which type."""
