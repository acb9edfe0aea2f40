"""Videos, upscaled in segments."""
