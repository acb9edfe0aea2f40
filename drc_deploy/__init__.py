"""drc-deploy: dual-regression training, channel pruning, export and benchmarking of super-resolution networks."""

__version__ = "0.1.0"
