"""The ONNX graph and its exact rewrites."""
