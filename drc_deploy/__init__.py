"""drc-deploy: dual-regression training, channel pruning, export and benchmarking of super-resolution networks."""

import os

__version__ = "0.1.0"

# ONNX Runtime reads this when it is imported. Without it, it looks up a server and keeps an identifier in the cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# In a checkout without symbolic links, as git makes it on Windows, the rooms are found next to this folder.
if not os.path.isdir(os.path.join(os.path.dirname(__file__), "train")):
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
