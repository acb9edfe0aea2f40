"""Find a file by what a user typed: a path, a name in the work folder, or a name that ships with the package."""

import os
from collections.abc import Sequence
from pathlib import Path

from drc_deploy.errors import ArtefactError
from drc_deploy.files import sha256_of
from drc_deploy.input_files import MISSING, why_not

SHIPPED = Path(__file__).parent / "weights"
SAMPLES = Path(__file__).parent / "samples"
"""Photographs that ship with the package: used where a command needs a real image and none was given."""

CHECKPOINT_SUFFIX = ".safetensors"
TORCH_SUFFIXES = (".pt", ".pth")
ENGINE_SUFFIXES = (CHECKPOINT_SUFFIX, ".onnx", ".plan")
"""In the order in which a bare name is looked for: it means the checkpoint of that name, if there is one."""


def shipped_names() -> list[str]:
    """Return the names of the checkpoints that ship with the package."""
    return sorted(path.stem for path in SHIPPED.glob(f"*{CHECKPOINT_SUFFIX}"))


def sample_images() -> list[Path]:
    """Return the photographs that ship with the package."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix in {".png", ".jpg"})


def find_checkpoint(reference: str, workdir: Path) -> Path:
    """Find a checkpoint by path, by name in ``workdir``, or by shipped name, in this order.

    Raises:
        ArtefactError: there is none, or the path is a file of another kind.
    """
    path = _find(reference, workdir, (CHECKPOINT_SUFFIX,))
    _refuse_torch_file(path)
    if path.suffix != CHECKPOINT_SUFFIX:
        raise ArtefactError(f"{path} is not a checkpoint.", f"Give a {CHECKPOINT_SUFFIX} file or one of {_known()}.")
    return path


def hides_shipped(path: Path, workdir: Path) -> bool:
    """Return whether a checkpoint at ``path`` is found by the name of a shipped one, instead of that."""
    is_named_so = path.suffix == CHECKPOINT_SUFFIX and path.stem in shipped_names()
    return is_named_so and path.parent.resolve() == workdir.resolve()


def find_trained_checkpoint(reference: str, workdir: Path) -> Path:
    """Find a checkpoint as ``find_checkpoint`` does; the error says how to make one.

    Raises:
        ArtefactError: there is none, or the path is a file of another kind.
    """
    made = sorted(path.stem for path in workdir.glob(f"*{CHECKPOINT_SUFFIX}"))
    hint = (
        f"{workdir} has {', '.join(made) or 'no checkpoint'}. If `drc-deploy models` lists {reference}, train it "
        f"(`drc-deploy train --model {reference}`). Or import weights (`drc-deploy import FILE`), "
        f"or use a shipped one: {_known()}."
    )
    _find(reference, workdir, (CHECKPOINT_SUFFIX,), hint)
    return find_checkpoint(reference, workdir)


def find_engine(reference: str, workdir: Path) -> Path:
    """Find something that can upscale (a checkpoint, an ONNX or a plan), as ``find_checkpoint`` does.

    A bare name is looked for in the order of ``ENGINE_SUFFIXES``.
    """
    path = _find(reference, workdir, ENGINE_SUFFIXES)
    _refuse_torch_file(path)
    if path.suffix not in ENGINE_SUFFIXES:
        raise ArtefactError(f"{path} is not an engine.", f"Give a {', '.join(ENGINE_SUFFIXES)} file or a name.")
    return path


def _refuse_torch_file(path: Path) -> None:
    if path.suffix in TORCH_SUFFIXES:
        raise ArtefactError(
            f"{path} is a torch file.",
            f"Make a checkpoint of it first: `drc-deploy import {path}` (DRN: --model NAME; your own: --network).",
        )


def checkpoint_of_sha256(sha256: str, workdir: Path) -> Path | None:
    """Find a checkpoint by its SHA-256, in ``workdir`` and among the shipped ones; None where it is in neither."""
    suffix = f"*{CHECKPOINT_SUFFIX}"
    candidates = [*sorted(workdir.glob(suffix)), *sorted(SHIPPED.glob(suffix))]
    return next((path for path in candidates if sha256_of(path) == sha256), None)


def find_file(reference: str, workdir: Path) -> Path:
    """Find a file of any kind that this program makes, as ``find_engine`` does; a bare name means the same file.

    Raises:
        ArtefactError: there is none.
    """
    return _find(reference, workdir, ENGINE_SUFFIXES, others=(".widths.json",))


def _find(
    reference: str, workdir: Path, suffixes: Sequence[str], hint: str = "", *, others: Sequence[str] = ()
) -> Path:
    # Of os.path, because these leave alone, or call no file, what Path's own raise for: `~nobody`, an endless name.
    given = Path(os.path.expanduser(reference))
    if os.path.isfile(given):
        return given
    # Not with_suffix: a name may hold a dot, as in `drn_s.v2`.
    candidates = [workdir / reference]
    candidates += [folder / f"{reference}{suffix}" for folder in (workdir, SHIPPED) for suffix in suffixes]
    candidates += [workdir / f"{reference}{suffix}" for suffix in others]
    for candidate in candidates:
        if os.path.isfile(candidate):
            return candidate
    if reference and (why := why_not(given)) != MISSING:
        raise ArtefactError(f"{given} {why}.", hint or "Give a path or a name.")
    raise ArtefactError(
        f"there is no file {reference!r}, nothing of that name in {workdir}, and no shipped model of that name.",
        hint or f"Give a path or one of the shipped models: {_known()}.",
    )


def _known() -> str:
    return ", ".join(shipped_names()) or "(none ship with this installation)"
