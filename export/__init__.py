"""From a checkpoint to ONNX and TensorRT, and the check that nothing changed on the way."""
