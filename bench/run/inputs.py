"""What a benchmark measures: its options, and the engine files that they mean."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.engine_info import Precision, is_own_engine
from drc_deploy.errors import ArtefactError
from drc_deploy.locate import ENGINE_SUFFIXES, find_engine


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure, and how long."""

    engines: tuple[str, ...]
    """Names or files; none means everything in the work folder."""
    workdir: Path
    out: Path
    data: Path | None
    lr_folder: str | None
    height: int
    width: int
    min_runs: int
    min_seconds: float
    threads: int | None
    precision: Precision | None = None
    """In which the checkpoints among the engines are computed; None: fp32."""
    against: tuple[str, ...] = ()
    """Other programs to measure too: names of ``drc_deploy.bench.programs.supported.LIBRARIES``."""
    case_seconds: float | None = None
    """The most that an engine may take, loading and quality included; None: no limit."""

    @property
    def command(self) -> str:
        """Return the command line that repeats the run."""
        words = ["drc-deploy", "bench", *self.engines, "--workdir", str(self.workdir), "--out", str(self.out)]
        words += ["--data", str(self.data)] if self.data else []
        words += ["--lr-dir", self.lr_folder] if self.lr_folder else []
        words += ["--size", f"{self.height}x{self.width}"]
        words += ["--min-runs", str(self.min_runs), "--min-seconds", f"{self.min_seconds:g}"]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--precision", self.precision] if self.precision else []
        words += [word for name in self.against for word in ("--against", name)]
        words += ["--case-seconds", f"{self.case_seconds:g}"] if self.case_seconds else []
        return shlex.join(words)


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
    paths = [find_engine(reference, workdir) for reference in references] or [
        path
        for path in sorted(workdir.glob("*"))
        if path.suffix in ENGINE_SUFFIXES and is_own_engine(path) and path.is_file()
    ]
    if not paths:
        raise ArtefactError(
            f"there is nothing to measure in {workdir}.",
            "Make something with `drc-deploy export`, or name an engine: `drc-deploy bench drn_xs`.",
        )
    paths = list(dict.fromkeys(paths))
    names = [path.name for path in paths]
    return [EngineFile(path.name if names.count(path.name) == 1 else str(path), path) for path in paths]
