"""What a machine reports while it is measured: memory, and what its sensors say."""
