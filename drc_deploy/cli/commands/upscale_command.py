"""``drc-deploy upscale``."""

import dataclasses
import importlib.util
import os
import re
import shlex
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.cli import options
from drc_deploy.cli.sections import SectionedCommand
from drc_deploy.cli.size_options import size_options
from drc_deploy.cli.video_options import video_options
from drc_deploy.engine_info import is_own_engine
from drc_deploy.errors import ArtefactError, DrcDeployError, ImageError, MissingDependencyError, UsageError
from drc_deploy.images.output_size import OutputSize
from drc_deploy.locate import CHECKPOINT_SUFFIX, ENGINE_SUFFIXES, SHIPPED, find_engine, shipped_names
from drc_deploy.printing import one_line, say
from drc_deploy.runtime.backends.trt.gpu_memory import has_cuda_driver
from drc_deploy.runtime.remote.url import is_url, place_of
from drc_deploy.runtime.video.options import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drc_deploy.runtime.backends.contract import GpuMemory
    from drc_deploy.runtime.cluster.run import ClusterRun
    from drc_deploy.runtime.jobs.plan import Job
    from drc_deploy.runtime.jobs.run import Failed, Outcome, RunOptions
    from drc_deploy.runtime.loaded_file import LoadedFile
    from drc_deploy.runtime.upscaler import Upscaler


FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tiff", "bmp", "gif")
DEFAULT = "drn_e"
"""The shipped network with the best images, and fast enough for a CPU."""
_SHOWN_FAILURES = 20
"""With the same hint, whatever its figures: a folder may have a million."""


@click.command(
    cls=SectionedCommand,
    sections={
        "Size of results": ("scale", "width", "height", "max_side", "fit", "linear_light"),
        "Images": ("suffix", "quality", "background", "max_pixels"),
        "Videos": ("codec", "crf", "preset", "audio", "no_subtitles", "deinterlace"),
        "Computation": ("tile", "overlap", "exact", "kernel", "max_memory", "precision", "threads", "address"),
    },
    short_help="Upscale images and videos with an engine.",
)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--engine",
    help="A .plan, .onnx or checkpoint, or a name.  [default: the newest plan or ONNX in --workdir, else a shipped "
    "network]",
)
@click.option("-o", "--output", help="File, folder, or - for a PNG on standard output.  [default: INPUT_x4.png]")
@size_options
@click.option("--overwrite", is_flag=True, help="Write over files that exist.")
@click.option("--skip-existing", is_flag=True, help="Skip images that have a result of the same engine and options.")
@click.option("--tolerant", is_flag=True, help="Use the readable part of a damaged JPEG, animation or video.")
@click.option(
    "--format",
    "suffix",
    type=click.Choice(FORMATS, case_sensitive=False),
    help="Format of results that no -o names.  [default: png]",
)
@click.option(
    "--quality", type=click.IntRange(1, 100), help="Quality of JPEG, WebP and AVIF.  [default: 95, of AVIF 90]"
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Colour to put behind transparent pixels, such as white or #ff8000.  [default: they stay transparent]",
)
@click.option("--max-pixels", type=click.IntRange(1), help="Refuse larger images.  [default: about 179 million]")
@click.option("--tile", type=click.IntRange(1), help="Largest side of a tile in input pixels.")
@click.option("--overlap", type=click.IntRange(0), help="Context around each tile in input pixels.")
@click.option(
    "--exact", is_flag=True, help="Make tiles as exact as the whole image in one piece; takes three times as long."
)
@click.option(
    "--kernel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Blur kernel of the images, an .npz file as `data degrade` writes; for blind networks such as dcls.  "
    "[default: estimated for each image]",
)
@click.option(
    "--max-memory",
    type=options.ByteSize(),
    metavar="SIZE",
    help="Host memory for an ONNX or a checkpoint on a CPU, such as 800MiB or 2GiB. A plan uses the free memory of the "
    "GPU.  [default: half of the free memory]",
)
@video_options
@options.precision_option
@options.threads_option
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Compute on the machines of a Ray cluster, such as --ray 10.0.0.1:6379; without an address in several "
    "processes here. Each takes --threads cores (4) or a GPU.",
)
@options.workdir_option
@options.json_option
def command(
    inputs: tuple[str, ...],
    engine: str | None,
    output: str | None,
    overwrite: bool,
    skip_existing: bool,
    tolerant: bool,
    suffix: str | None,
    quality: int | None,
    background: str | None,
    max_pixels: int | None,
    kernel: Path | None,
    max_memory: int | None,
    size: OutputSize,
    linear_light: bool,
    video: VideoOptions,
    threads: int | None,
    address: str | None,
    workdir: Path,
    as_json: bool,
    **how: Any,  # what the result depends on: tile, overlap, exact, precision
) -> None:
    """Upscale images, videos, or folders of them, of any size.

    INPUT is a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, JPEG XL or HEIC file, a folder, a quoted pattern
    such as 'photos/**/*.jpg', or - for standard input. Grey and RGB, 8 and 16 bit, with and without transparency.
    Colour profiles, resolution, EXIF, XMP and IPTC are kept. The file in.png becomes in_x4.png next to it. A
    folder, or a pattern in FOLDER, becomes FOLDER_x4. Existing files stay.

    INPUT and -o may be URLs: 's3://bucket/in/*.jpg', gs://, file://, and https:// as INPUT.

    --scale, --width, --height, --max-side or --fit says how large results are: in_x2.png, in_w1920.png, in_h1080.png,
    in_max2048.png or in_1920x1080.png. The network's image is reduced to it. An image as large as that already is
    resized without the network, but for --scale.

    Large images are upscaled in tiles. In networks with channel attention, tiles differ a little from the whole image;
    --exact removes the difference. For an exported network it needs NAME.exact.onnx or NAME.exact.plan, which
    `export --exact` writes.

    An animated GIF, PNG or WebP stays one: in.gif becomes in_x4.gif. -o out.webp, out.png or out.gif makes another
    kind of animation, and -o out.mp4 a video.

    A video (MP4, MOV, MKV, WebM, AVI, MPEG, TS, FLV, WMV and others) keeps its sound, subtitles, time stamps, colours,
    and its 10 bits or transparency where the result can hold them. After a stop, the same command continues.
    """
    from drc_deploy.images.formats import check_quality, saving_of
    from drc_deploy.images.reading import limit_pixels
    from drc_deploy.runtime.jobs.plan import plan_jobs
    from drc_deploy.runtime.jobs.records import Records
    from drc_deploy.runtime.jobs.run import RunOptions
    from drc_deploy.runtime.jobs.streams import STREAM, check_streams
    from drc_deploy.runtime.loaded_file import LoadedFile

    to_stdout, saving = output == STREAM, saving_of(quality, background)
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other.", "Give one of them.")
    _check_files(inputs, output, as_json=as_json)
    check_streams(reads=STREAM in inputs, writes=to_stdout)
    if max_pixels is not None:
        limit_pixels(max_pixels)
    path, why = (find_engine(engine, workdir), "") if engine else choose_engine(workdir)
    say(why, err=True, nl=bool(why))
    file = LoadedFile(path)
    opening = {**how, "threads": threads, "max_memory": max_memory}
    with (
        _opened_here(file, opening, kernel)
        if address is None
        else _opened_on_ray(address, file, opening, kernel, max_pixels) as upscaling
    ):
        scale = upscaling.scale
        size.check(scale)
        jobs = plan_jobs(inputs, output, size.label(scale), suffix and f".{suffix}")
        _check_options(jobs, (suffix, quality, background), video)
        for job in jobs:
            if not job.makes_video:
                check_quality(job.target, saving)
        recorded = skip_existing or len(jobs) > 1  # one result alone leaves no file of ours next to it
        lasting = recorded or any(job.makes_video for job in jobs)
        settings = _made_by(file, kernel, how) if lasting else {}
        run_options = RunOptions(overwrite, skip_existing, tolerant, saving, size, linear_light)
        if recorded:
            of_images = {"size": dataclasses.asdict(size), "linear_light": linear_light}
            of_images |= {"saving": dataclasses.asdict(saving)}
            run_options = dataclasses.replace(run_options, records=(records := Records({**settings, **of_images})))
            results = sum(records.is_result(job.source) for job in jobs)
            if 0 < results < len(jobs):  # where all are, they are what is meant
                say(f"{results} of {len(jobs)} are results of earlier commands, and are enlarged once more.", err=True)
        start = time.monotonic()
        outcome = upscaling.run(jobs, run_options, settings, video)
        seconds = time.monotonic() - start
        memory, recomputed = upscaling.gpu_memory, upscaling.recomputed
        result = {
            "files": outcome.finished,
            "skipped": outcome.skipped,
            "failed": outcome.failed,
            "seconds": round(seconds, 3),
            "redone": outcome.redone,
            "engine": str(path),
            "device": upscaling.device,
            "gpu_memory": memory and {**dataclasses.asdict(memory), "total": memory.total},
            "recomputed_tiles": recomputed,
        }
    lines = _summary(outcome, len(jobs), recomputed, seconds)
    if to_stdout:
        say("\n".join(lines), err=True)
    elif as_json or lines:
        options.emit(result, as_json=as_json, text="\n".join(lines))
    _report_failures(outcome.failed, len(jobs))


class _Here:
    """An open network in this process; see ``ClusterRun`` for one on Ray."""

    def __init__(self, upscaler: "Upscaler") -> None:
        self._upscaler = upscaler
        self.scale, self.device = upscaler.info.scale, upscaler.device

    def run(
        self, jobs: "Sequence[Job]", options: "RunOptions", made_by: dict[str, Any], video: VideoOptions
    ) -> "Outcome":
        from drc_deploy.runtime.remote.run import run_anywhere

        return run_anywhere(self._upscaler, jobs, options, made_by, video)

    @property
    def gpu_memory(self) -> "GpuMemory | None":
        return self._upscaler.backend.gpu_memory

    @property
    def recomputed(self) -> int:
        return self._upscaler.networks.rescue.count


@contextmanager
def _opened_here(file: "LoadedFile", opening: dict[str, Any], kernel: Path | None) -> "Iterator[_Here]":
    from drc_deploy.images.blur import read_blur
    from drc_deploy.runtime.upscaler import Upscaler

    blur = read_blur(kernel) if kernel else None
    with Upscaler.open(file.path, **opening) as upscaler:
        if blur:
            upscaler.use_blur(blur)
        yield _Here(upscaler)


@contextmanager
def _opened_on_ray(
    address: str, file: "LoadedFile", opening: dict[str, Any], kernel: Path | None, max_pixels: int | None
) -> "Iterator[ClusterRun]":
    from drc_deploy.files import sha256_of
    from drc_deploy.images.blur import read_blur
    from drc_deploy.runtime.cluster.run import ClusterRun
    from drc_deploy.runtime.cluster.worker import Recipe
    from drc_deploy.runtime.cluster.workers import workers_at

    sha256 = file.load(partial(sha256_of, file.path))
    recipe = Recipe(file.path, sha256, opening, read_blur(kernel) if kernel else None, max_pixels, Path.cwd())
    with workers_at(address, recipe, opening["threads"]) as workers:
        yield ClusterRun(workers)


def _made_by(file: "LoadedFile", kernel: Path | None, how: dict[str, Any]) -> dict[str, Any]:
    """Return what pixels depend on besides their source: results of something else are not taken for finished."""
    from drc_deploy.files import sha256_of

    kernels = {"kernel": sha256_of(kernel)} if kernel else {}
    return {"engine": file.load(partial(sha256_of, file.path)), **how, **kernels}


def _check_files(inputs: tuple[str, ...], output: str | None, *, as_json: bool) -> None:
    """Refuse names that cannot be meant, before anything is computed.

    Raises:
        ImageError: the only input does not exist.
        UsageError: two results would go to standard output; a URL cannot be right; or of two inputs only the first
            exists, as in ``in.png out.png``, where other programs take the second as the output.
    """
    if output == "-" and as_json:
        raise UsageError("--json and the image would both go to standard output.", "Give -o a file.")
    for name in (*inputs, output or ""):
        place_of(name)
    if len(inputs) == 1 and _is_missing(inputs[0]):  # of several, the others are upscaled
        raise ImageError(f"{inputs[0]} does not exist.", "Check the path.")
    if output is not None or len(inputs) != 2 or not os.path.isfile(inputs[0]):
        return
    if _is_missing(inputs[1]):
        source, target = map(shlex.quote, inputs)
        raise UsageError(
            f"{inputs[1]} does not exist, and every argument of upscale is an input.",
            f"Name the output with -o: drc-deploy upscale {source} -o {target}",
        )


def _is_missing(name: str) -> bool:
    """Return whether a name is that of a file here which does not exist: no pattern, no URL and no stream."""
    return not (name in ("", "-") or is_url(name) or set(name) & set("*?[") or os.path.lexists(name))


def _summary(outcome: "Outcome", count: int, recomputed_tiles: int, seconds: float) -> list[str]:
    """Return the lines for people about ``count`` files, which took ``seconds`` together."""
    lines = [f"{one_line(item.output)}  {item.width}x{item.height}  {item.seconds:.1f} s" for item in outcome.finished]
    if recomputed_tiles:
        lines.append(f"{recomputed_tiles} tiles overflowed in half precision and were computed again in float32.")
    if outcome.redone:
        lines.append(
            f"{outcome.redone} of {count} done again: their results were of another engine, other options or an "
            "earlier image."
        )
    if outcome.skipped:
        lines.append(f"{len(outcome.skipped)} of {count} skipped: their results exist.")
    if count > 1 and outcome.finished:
        lines.append(f"{len(outcome.finished)} of {count} upscaled in {seconds:.1f} s.")
    return lines


def _check_options(jobs: "Sequence[Job]", of_images: tuple[object, ...], of_videos: VideoOptions) -> None:
    """Refuse options of images where there are only videos, and the other way round.

    Raises:
        UsageError: some would have no effect.
    """
    videos = sum(job.makes_video for job in jobs)
    *formats, background = of_images
    if any(job.animated for job in jobs):  # an animation that becomes a video can be laid on a colour
        background = None
    if videos == len(jobs) and any(option is not None for option in (*formats, background)):
        raise UsageError("--format, --quality and --background are for images.", "Leave them out for videos.")
    if not videos and of_videos != VideoOptions():
        names = "--codec, --crf, --preset, --audio, --no-subtitles and --deinterlace"
        raise UsageError(f"{names} are for videos.", "Leave them out for images.")


def _report_failures(failed: "list[Failed]", count: int) -> None:
    """Print what failed, and raise an error if anything did."""
    if count == 1 and failed:
        raise DrcDeployError(failed[0].error, failed[0].hint)
    alike: defaultdict[str, list[Failed]] = defaultdict(list)
    for item in failed:
        alike[re.sub(r"\d+", "", item.hint)].append(item)
    for items in alike.values():
        for item in items[:_SHOWN_FAILURES]:
            name = "" if item.input in item.error else f"{item.input}: "
            say(one_line(f"Failed: {name}{item.error} {item.hint}"), err=True)
        if len(items) > _SHOWN_FAILURES:
            say(f"Failed: {len(items) - _SHOWN_FAILURES} more like these; --json lists all.", err=True)
    if failed:
        raise DrcDeployError(f"{len(failed)} of {count} could not be upscaled.", "See above.")


def choose_engine(workdir: Path, parameter: str = "--engine") -> tuple[Path, str]:
    """Return the newest engine in ``workdir``, or a shipped network where there is none, and a sentence that says why.

    Args:
        workdir: Where engines are looked for.
        parameter: Of the command, that names an engine.

    Raises:
        ArtefactError: ``workdir`` holds networks, but none that was exported for this machine.
        MissingDependencyError: a shipped network is needed, and torch, which runs it, is not installed.
    """
    files = list(workdir.glob("*"))
    suffixes = (".plan", ".onnx") if has_cuda_driver() else (".onnx",)  # plans need an NVIDIA driver
    if engines := [path for path in files if path.suffix in suffixes and is_own_engine(path)]:
        path = max(engines, key=lambda path: (path.stat().st_mtime_ns, path.name))
        return path, f"Using the newest engine: {path}"
    if checkpoints := [path for path in files if path.suffix == CHECKPOINT_SUFFIX]:
        newest = max(checkpoints, key=lambda path: (path.stat().st_mtime_ns, path.name))
        raise ArtefactError(
            f"{workdir} holds checkpoints, but nothing that was exported for this machine; no {parameter} was given.",
            f"Give {parameter} {newest}, or run `drc-deploy export {newest}` first; {DEFAULT} ships.",
        )
    if any(path.suffix in ENGINE_SUFFIXES for path in files):
        raise ArtefactError(
            f"there is no engine in {workdir} that this machine can run.",
            f"Give {parameter}: a .plan, an .onnx, a checkpoint, or one of {', '.join(shipped_names())}.",
        )
    return _shipped_engine(parameter)


def _shipped_engine(parameter: str) -> tuple[Path, str]:
    if importlib.util.find_spec("torch") is None:
        raise MissingDependencyError(
            "no engine was named, and the networks that ship with drc-deploy need torch, which is not installed.",
            "Install it: pip install 'drc-deploy[train]'. Or export a network where torch is, copy it here and name "
            f"it with {parameter}.",
        )
    why = f"Using the shipped {DEFAULT}. Choose another with {parameter} (see `drc-deploy models`)."
    return SHIPPED / f"{DEFAULT}{CHECKPOINT_SUFFIX}", why
