"""What the machine is, what it can run, and what its sensors say."""
