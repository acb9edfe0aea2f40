"""Memory of the process: how much it holds and may take."""
