"""The machine that a network runs on, and its NVIDIA GPUs."""
