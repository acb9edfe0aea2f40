"""Plans in TensorRT."""
