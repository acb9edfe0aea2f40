"""What the process holds, and how much it may take."""
