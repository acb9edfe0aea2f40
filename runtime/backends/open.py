"""Opens a file as a backend, chosen by its suffix."""

from numbers import Integral
from pathlib import Path

from drc_deploy.engine_info import (
    CHECKPOINT_PRECISIONS,
    EXACT_PLAN_SUFFIX,
    EXACT_SUFFIX,
    KERNEL_PLAN_SUFFIX,
    KERNEL_SUFFIX,
    RESTORER_PLAN_SUFFIX,
    RESTORER_SUFFIX,
    Precision,
)
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.input_files import why_not
from drc_deploy.runtime.backends.contract import Backend


def open_backend(path: Path, *, threads: int | None = None, precision: Precision | None = None) -> Backend:
    """Load a ``.plan``, ``.onnx`` or ``.safetensors`` file.

    Args:
        path: the file.
        threads: CPU threads; None leaves the choice to the library.
        precision: of the body of a checkpoint's network; None: fp32. An exported file has its own.

    Raises:
        UsageError: ``precision`` is given for an exported file, or is none that torch computes in; or ``threads`` is no
            number of threads.
        ArtefactError: the file is missing, damaged, or of another program, version or GPU.
        MissingDependencyError: this machine lacks the library or the device.
    """
    threads = whole_number("threads", threads, least=1)
    if why := why_not(path):
        raise ArtefactError(f"{path} {why}.", "Check the path, or make it with `drc-deploy export`.")
    path = path.absolute()  # parts of it may be loaded later, after an `os.chdir`
    if path.name.endswith((EXACT_SUFFIX, EXACT_PLAN_SUFFIX)):
        served = path.with_name(path.name.removesuffix(f".exact{path.suffix}") + path.suffix)
        raise ArtefactError(f"{path} only serves {served} with --exact.", f"Give {served} and --exact.")
    for suffix in (KERNEL_SUFFIX, RESTORER_SUFFIX, KERNEL_PLAN_SUFFIX, RESTORER_PLAN_SUFFIX):
        if path.name.endswith(suffix):
            served = path.with_name(path.name.removesuffix(suffix) + path.suffix)
            raise ArtefactError(f"{path} is a part that only serves {served}.", f"Give {served}.")
    if path.suffix == ".safetensors":
        return _open_checkpoint(path, threads, precision or "fp32")
    refuse_precision(path, precision)
    if path.suffix == ".onnx":
        from drc_deploy.runtime.backends.ort.backend import OnnxRuntimeBackend

        _check_loadable(path)
        return OnnxRuntimeBackend(path, threads=threads)
    if path.suffix == ".plan":
        from drc_deploy.runtime.backends.trt.backend import TensorRTBackend

        return TensorRTBackend(path)
    raise ArtefactError(f"{path} is not an engine.", "Give a .plan, .onnx or .safetensors file.")


def _check_loadable(path: Path) -> None:
    """Refuse what ONNX Runtime would report as another fault.

    Raises:
        ArtefactError: nobody may read it, or its name is no text, which it needs.
    """
    try:
        path.open("rb").close()
        str(path).encode()
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except UnicodeEncodeError as error:
        raise ArtefactError(f"the name of {path} is no text in UTF-8.", "Rename the file or its folder.") from error


def whole_number(name: str, value: int | None, *, least: int) -> int | None:
    """Return the value of an option; NumPy's integers become Python's, which do not overflow.

    Raises:
        UsageError: it is neither None nor a whole number of at least ``least``.
    """
    if value is None:
        return None
    if not (isinstance(value, Integral) and value >= least):
        raise UsageError(f"{name} is {value!r}: it takes a whole number of at least {least}.", "Give another one.")
    return int(value)


def _open_checkpoint(path: Path, threads: int | None, precision: Precision) -> Backend:
    if precision not in CHECKPOINT_PRECISIONS:
        raise UsageError(
            f"a checkpoint runs in {', '.join(CHECKPOINT_PRECISIONS)}, not in {precision}.",
            "INT8 is for exported files: drc-deploy export CHECKPOINT --precision int8.",
        )
    from drc_deploy.runtime.backends.pytorch.backend import TorchBackend

    return TorchBackend(path, threads=threads, precision=precision)


def refuse_precision(path: Path, precision: Precision | None) -> None:
    """Refuse to choose the precision of an exported file.

    Raises:
        UsageError: one is given.
    """
    if precision is not None:
        raise UsageError(
            f"{path} has the precision that it was exported with.", "Leave out --precision, or give the checkpoint."
        )
