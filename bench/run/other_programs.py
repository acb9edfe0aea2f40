"""The other programs of one run: which there are, and whether they compute the same as our engines.

The times of a program that computes something else mean nothing.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from drc_deploy.bench.measure.fidelity import DifferenceSum, ImageDifference
from drc_deploy.bench.programs.program_backend import ProgramRequest
from drc_deploy.bench.programs.supported import LIBRARIES, find_program_input, open_program
from drc_deploy.bench.report.records import NotMeasured
from drc_deploy.bench.run.engines import Engines, MeasuredEngine, ProgramRun
from drc_deploy.bench.run.inputs import BenchOptions, EngineFile
from drc_deploy.errors import ArtefactError, DrcDeployError, VerificationError
from drc_deploy.metrics import UInt8Image

REQUIRED_DB = 50.0
"""A difference of one grey level in every sample gives 48 dB; half precision stays above 50 (see `export`)."""
SIDES_PX = ((96, 96), (40, 56))
"""Largest heights and widths of the images compared. Two sizes: a converter may burn one of them in."""


def enter_programs(options: BenchOptions, engines: Engines) -> None:
    """Load the networks of all engines in other programs; the same network in the same program once only."""
    ours = list(engines.active)
    for library in dict.fromkeys(options.against):
        if missing := LIBRARIES[library].missing():
            reason, hint = f"{', '.join(missing)} is not installed.", LIBRARIES[library].install
            engines.not_measured.append(NotMeasured(library, "skipped", reason, hint))
            continue
        for name, path in _inputs(library, ours, engines, options.workdir):
            for variant in LIBRARIES[library].variants():
                file = EngineFile(f"{name} ({library} {variant})", path)
                request = ProgramRequest(path, variant, options.threads, (options.height, options.width))
                engines.enter(file, partial(open_program, library, request), ProgramRun(library, variant, name))


def _inputs(
    library: str, ours: Sequence[MeasuredEngine], engines: Engines, workdir: Path
) -> Iterator[tuple[str, Path]]:
    """Return each of our engines by name with the file that another program runs, every file once."""
    seen: set[Path] = set()
    for engine in ours:
        name = engine.file.name
        try:
            path = find_program_input(library, engine.file.path, engine.opened.info, workdir)
        except ArtefactError as error:
            engines.leave_out(f"{name} ({library})", "skipped", error)
            continue
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield name, path


def check_programs(engines: Engines, image: UInt8Image) -> None:
    """Take out of the run every program whose output differs from our engine's."""
    programs = {engine.file.name: engine.program.of for engine in engines.active if engine.program}
    inputs, outputs = comparison_inputs(image), {}

    def upscale(engine: MeasuredEngine) -> None:
        name = engine.file.name
        if name in programs or name in programs.values():
            outputs[name] = [engine.upscale(part) for part in inputs]

    def check(engine: MeasuredEngine) -> None:
        if engine.program:
            ours = engine.program.of
            if ours not in outputs:
                raise DrcDeployError(f"{ours} failed, so that there is nothing to compare its output with.")
            engine.program.parity = compare(outputs[ours], outputs[engine.file.name])

    engines.each(upscale)
    engines.each(check)


def comparison_inputs(image: UInt8Image) -> list[UInt8Image]:
    """Return the parts of an image (H, W, 3) on which outputs are compared."""
    return [np.ascontiguousarray(image[:height, :width]) for height, width in SIDES_PX]


def compare(ours: Sequence[UInt8Image], theirs: Sequence[UInt8Image]) -> ImageDifference:
    """Compare results for the same inputs.

    Raises:
        VerificationError: the sizes differ, or the images do by more than ``REQUIRED_DB`` allows.
    """
    hint, found = "Do not use it for this network.", DifferenceSum()
    for one, other in zip(ours, theirs, strict=True):
        if one.shape != other.shape:
            raise VerificationError(f"it gives {other.shape} where our engine gives {one.shape}.", hint)
        found.add(other, one)
    difference = found.total()
    if difference.psnr_db is not None and difference.psnr_db < REQUIRED_DB:
        raise VerificationError(
            f"its output is not that of our engine: PSNR {difference.psnr_db:.1f} dB between them, needed are "
            f"{REQUIRED_DB:.0f}, largest difference {difference.max_levels} of 255.",
            hint,
        )
    return difference
