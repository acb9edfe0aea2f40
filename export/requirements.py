"""The packages that an export needs, checked before the work starts."""

import importlib.util
from collections.abc import Callable

from drc_deploy.errors import MissingDependencyError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
"""onnxscript is what torch writes ONNX with; onnxruntime runs the result for the check."""


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def require_packages(is_installed: Callable[[str], bool] = _is_installed) -> None:
    """Check that everything an export imports is there.

    Raises:
        MissingDependencyError: names all that is missing.
    """
    missing = [name for name in PACKAGES if not is_installed(name)]
    if missing:
        raise MissingDependencyError(
            f"an export needs {', '.join(missing)}, which this Python does not have.",
            "Install what is missing: pip install 'drc-deploy[export]'.",
        )
