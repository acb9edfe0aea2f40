"""From what a user names to files: which image goes where, and upscaling one after the other."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.errors import ArtefactError, DrcDeployError, InputError, OutputError, UsageError
from drc_deploy.image_output import check_output, write_image
from drc_deploy.images import IMAGE_SUFFIXES, list_images, read_image
from drc_deploy.locate import shipped_names
from drc_deploy.png_stream import Layout
from drc_deploy.progress import progress
from drc_deploy.runtime.cuda_memory import has_cuda_driver
from drc_deploy.runtime.upscaler import Upscaler

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One image to upscale."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """One image that was upscaled."""

    input: str
    output: str
    width: int
    """Of the output, in pixels."""
    height: int
    seconds: float
    """From opening the input to the finished file."""
    tiles: int
    """How many tiles the network was run on."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One image that could not be upscaled."""

    input: str
    error: str
    hint: str


def newest_engine(workdir: Path) -> Path:
    """Give the newest plan or ONNX in ``workdir``; plans count only where there is an NVIDIA driver.

    Raises:
        ArtefactError: there is none.
    """
    suffixes = (".plan", ".onnx") if has_cuda_driver() else (".onnx",)
    engines = [
        path
        for path in workdir.glob("*")
        # NAME.float.onnx serves NAME.onnx for 16-bit images; it is not an engine of its own.
        if path.suffix in suffixes and not path.name.endswith(".float.onnx")
    ]
    if not engines:
        raise ArtefactError(
            f"there is no engine in {workdir} that this machine can run.",
            f"Give --engine: a .plan, an .onnx, a checkpoint, or one of {', '.join(shipped_names())}.",
        )
    return max(engines, key=lambda path: (path.stat().st_mtime_ns, path.name))


def plan_jobs(inputs: Sequence[Path], output: Path | None, scale: int) -> list[Job]:
    """Decide where each image goes.

    A file ``in.png`` goes to ``in_x4.png`` beside it, or to ``output``: a file when that has the suffix of an image
    and there is one input, else a folder. A folder goes to ``FOLDER_x4``, or to ``output``, with its tree kept.

    Raises:
        InputError: a folder without images.
        UsageError: ``output`` is neither a folder nor the name of an image, or is the input folder itself, or a result
            would take the place of another one or of an input.
    """
    jobs: list[Job] = []
    for source in inputs:
        if os.path.isdir(source):  # Path's own raises for a name that is too long
            into = output or source.with_name(f"{source.resolve().name}_x{scale}")
            jobs += _folder_jobs(source, into / source.name if output and len(inputs) > 1 else into)
        else:
            jobs.append(Job(source, _file_target(source, output, scale, alone=len(inputs) == 1)))
    jobs = _with_distinct_targets(jobs)
    _refuse_clashes(jobs)
    return jobs


def _file_target(source: Path, output: Path | None, scale: int, *, alone: bool) -> Path:
    name = f"{source.stem}_x{scale}.png"
    if output is None:
        return source.with_name(name)
    if output.is_dir() or not output.suffix:
        return output / name
    if alone and output.suffix.lower() in IMAGE_SUFFIXES:
        return output
    raise UsageError(
        f"{output} is no folder and not the name of one image.",
        f"End it in one of {', '.join(IMAGE_SUFFIXES)}, or make the folder first.",
    )


def _folder_jobs(folder: Path, into: Path) -> list[Job]:
    whole, inside = folder.resolve(), into.resolve()
    if inside == whole:
        raise UsageError(f"{folder} is where the images come from.", "Give another folder with -o.")
    images = list_images(folder)
    if whole in inside.parents:
        # A second run must not take the results of the first for inputs.
        images = [path for path in images if inside not in path.resolve().parents]
    if not images:
        raise InputError(f"{folder} holds no images.", f"Known are {', '.join(IMAGE_SUFFIXES)}.")
    return [Job(path, into / path.relative_to(folder).with_suffix(".png")) for path in images]


def _with_distinct_targets(jobs: list[Job]) -> list[Job]:
    """Tell ``a.jpg`` and ``a.png`` apart where both would become ``a.png``."""
    count = Counter(job.target for job in jobs)
    return [
        job
        if count[job.target] == 1
        else Job(job.source, job.target.with_stem(f"{job.target.stem}_{job.source.suffix[1:]}"))
        for job in jobs
    ]


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would write over each other's result or input, which --overwrite does not mean."""
    sources = {os.path.realpath(job.source): job for job in jobs}
    earlier: dict[str, Job] = {}
    for job in jobs:
        target = os.path.realpath(job.target)
        if target in earlier:
            raise UsageError(
                f"{earlier[target].source} and {job.source} would both become {job.target}.",
                "Upscale them one after the other, each with its own -o.",
            )
        if sources.get(target, job) is not job:
            raise UsageError(
                f"the result of {job.source} would replace {job.target}, which is an input too.",
                "Give another folder with -o.",
            )
        earlier[target] = job


def run_jobs(upscaler: Upscaler, jobs: Sequence[Job], *, overwrite: bool) -> tuple[list[Finished], list[Failed]]:
    """Upscale every image, whatever happens to the others; progress goes to standard error."""
    finished: list[Finished] = []
    failed: list[Failed] = []
    for index, job in enumerate(jobs):
        title = job.source.name if len(jobs) == 1 else f"{job.source.name} ({index + 1} of {len(jobs)})"
        try:
            finished.append(upscale_file(upscaler, job, overwrite=overwrite, title=title))
        except DrcDeployError as error:
            failed.append(Failed(str(job.source), error.message, error.hint))
        except MemoryError as error:
            message = f"{job.source} needs more memory than there is: {error}."
            failed.append(Failed(str(job.source), message, "Give a smaller --tile, or cut the image into parts."))
    return finished, failed


def upscale_file(upscaler: Upscaler, job: Job, *, overwrite: bool, title: str) -> Finished:
    """Read, upscale and write one image; ``title`` heads its progress bar.

    Raises:
        ImageError: the input cannot be read.
        OutputError: the output is in the way, cannot hold the image, or cannot be written.
        ArtefactError: the network failed.
    """
    start = time.perf_counter()
    _check_target(job, overwrite=overwrite)
    picture = read_image(job.source)
    for note in picture.notes:
        _log.warning(note)
    layout = Layout.of(picture.pixels, upscaler.info.scale)
    metadata = picture.metadata.for_size(layout.width, layout.height)
    check_output(job.target, layout, with_profile=metadata.icc_profile is not None)
    tiles = upscaler.tile_count(picture.pixels)
    with progress(title, tiles) as bar:
        strips = upscaler.strips(picture.pixels, bar.advance)
        write_image(job.target, strips, layout, metadata)
    seconds = round(time.perf_counter() - start, 3)
    return Finished(str(job.source), str(job.target), layout.width, layout.height, seconds, tiles)


def _check_target(job: Job, *, overwrite: bool) -> None:
    """Refuse to write over the input, or over anything without leave."""
    if not os.path.exists(job.target):
        return
    if os.path.exists(job.source) and job.target.samefile(job.source):
        raise OutputError(f"{job.target} is the input itself.", "Give another name with -o.")
    if job.target.is_dir():
        raise OutputError(f"{job.target} is a folder.", "Give another name with -o.")
    if not overwrite:
        raise OutputError(f"{job.target} exists already.", "Give --overwrite, or another name with -o.")
