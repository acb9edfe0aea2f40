"""Backends that compute a network: the contract, and ONNX Runtime, TensorRT and torch behind it."""
