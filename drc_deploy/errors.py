"""Every error that a user can meet.

    DrcDeployError            exit code 1
    ├── UsageError            exit code 2: an option or argument that cannot be right
    ├── InputError            a file that is missing, damaged or of the wrong kind
    │   ├── ArtefactError     a checkpoint, widths file, ONNX, plan or report
    │   └── ImageError        an image
    ├── OutputError           a result that cannot be written
    ├── MissingDependencyError  a package or a device that this machine lacks
    ├── TrainingError         training that cannot go on (NaN loss, too little data)
    └── VerificationError     an export that does not compute what its source computes

Library code raises them; only ``drc_deploy.cli`` prints them and sets the exit code.
"""


class DrcDeployError(Exception):
    """One sentence of what is wrong, and one of what to do about it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DrcDeployError):
    """An option or argument that cannot be right on any machine."""

    exit_code = 2


class InputError(DrcDeployError):
    """A file that is missing, damaged or of the wrong kind."""


class ArtefactError(InputError):
    """A checkpoint, widths file, ONNX, plan or report that cannot be used."""


class ImageError(InputError):
    """An image that cannot be read or is not usable here."""


class OutputError(DrcDeployError):
    """A result that cannot be written: no permission, no space, or a file in the way."""


class MissingDependencyError(DrcDeployError):
    """A package or a device that this machine lacks."""


def cannot_import(needed_for: str, package: str, install: str, error: ImportError) -> MissingDependencyError:
    """Return the error of a package that is not installed or, as where memory is limited, cannot be loaded.

    Args:
        needed_for: what needs it, as the beginning of a sentence.
        package: its name for Python.
        install: how to install it, as the rest of a sentence.
        error: of the import.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return MissingDependencyError(
            f"{needed_for} needs {package}, which is not installed.", f"Install it: {install}"
        )
    return MissingDependencyError(
        f"{needed_for} needs {package}, which cannot be loaded: {error}.",
        f"Raise the limit of memory (`ulimit -v`) if there is one, or install it again: {install}",
    )


class TrainingError(DrcDeployError):
    """Training that cannot go on: a NaN loss, or too little data."""


class VerificationError(DrcDeployError):
    """An exported network that does not compute what its source computes."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: another program wants this one to end. Work is kept as at Ctrl-C; the exit code is 143."""
