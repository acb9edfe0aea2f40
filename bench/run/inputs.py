"""Which engines a benchmark measures, and on which images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import is_own_engine
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import ENGINE_SUFFIXES, find_engine


@dataclass(frozen=True, slots=True)
class EngineFile:
    """One engine file."""

    name: str
    """Unique in the report."""
    path: Path


def find_engine_files(references: Sequence[str], workdir: Path) -> list[EngineFile]:
    """Find the engines that were named, or everything in ``workdir`` that can upscale.

    Raises:
        ArtefactError: a name means nothing, or there is nothing in ``workdir``.
    """
    paths = [find_engine(reference, workdir) for reference in references] or _engines_in(workdir)
    if not paths:
        raise ArtefactError(
            f"there is nothing to measure in {workdir}.",
            "Make something with `drc-deploy export`, or name an engine: `drc-deploy bench drn_xs`.",
        )
    paths = list(dict.fromkeys(paths))
    names = [path.name for path in paths]
    return [EngineFile(path.name if names.count(path.name) == 1 else str(path), path) for path in paths]


def _engines_in(workdir: Path) -> list[Path]:
    if not workdir.is_dir():
        return []
    return sorted(
        path for path in workdir.iterdir() if path.suffix in ENGINE_SUFFIXES and is_own_engine(path) and path.is_file()
    )
