"""The values of the options of ``bench --remote``."""

import shlex
from typing import TYPE_CHECKING, Any

from drc_deploy.errors import UsageError

if TYPE_CHECKING:
    from drc_deploy.bench.remote.here import RemoteOptions

DEFAULT_PYTHON = "python3"
_DETAILS = ("remote_python", "remote_dir", "remote_export")


def take_remote(arguments: dict[str, Any]) -> "RemoteOptions | None":
    """Take the options out of the ``arguments`` of `bench run`; None without --remote.

    Raises:
        UsageError: they cannot be right.
    """
    remote = arguments.pop("remote")
    python, folder, export = (arguments.pop(name) for name in _DETAILS)
    if remote is None:
        for name, value in zip(_DETAILS, (python, folder, export), strict=True):
            if value is not None:
                raise UsageError(f"--{name.replace('_', '-')} is for --remote.", "Give --remote USER@HOST as well.")
        return None

    from drc_deploy.bench.remote.here import RemoteOptions
    from drc_deploy.bench.remote.target import parse_target

    target = parse_target(remote)
    if python is not None and (not python or python.startswith("-")):
        raise UsageError(f"{python!r} is no program.", "Give a name or a path with --remote-python.")
    if folder == "":
        raise UsageError("--remote-dir is empty.", "Name a folder on the other machine.")
    return RemoteOptions(target, python or DEFAULT_PYTHON, folder, _export_words(export))


def _export_words(text: str | None) -> tuple[str, ...]:
    """Split options of ``export``."""
    if text is None:
        return ()
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"--remote-export has an open quote: {text}.", "Close it.") from error
    if "--trt" not in {word.split("=")[0] for word in words}:
        raise UsageError("--remote-export makes plans and has no --trt.", "Give for example '--trt fp16'.")
    return words
