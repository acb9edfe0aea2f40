"""The request of an export, checked before anything runs."""

import importlib.util
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drc_deploy.engine_info import NO_OPTIONS, PlanOptions, Precision, sides_text, taken_side
from drc_deploy.errors import MissingDependencyError, UsageError
from drc_deploy.export.triton.model_folder import ModelFolder

BuilderChoice = Literal["auto", "tensorrt", "tensorrt_rtx"]
BUILDER_CHOICES: tuple[BuilderChoice, ...] = ("auto", "tensorrt", "tensorrt_rtx")

LARGEST_TILE_PX = 2048
"""Longest side of a tile: at x4 it gives 8192 pixels, more than a GPU has memory for in the networks here."""
LARGEST_BATCH = 256
LARGEST_WORKSPACE_MIB = 1 << 20
"""A tebibyte."""
DLA_PRECISION: Precision = "fp16"
"""The only precision here that a DLA computes in."""
DEFAULT_PLAN_TILE_PX = 128
"""Side of a plan's tile when none is asked for: a fixed shape lets TensorRT choose its kernels exactly."""


@dataclass(frozen=True, slots=True)
class InputSizes:
    """Which inputs the exported files take."""

    onnx: tuple[int, int] | None
    """Height and width that the ONNX files take; None for any."""
    plan: tuple[int, int] | None
    """Height and width that the plan takes; None for a range of sizes."""


LARGEST_FREE_MULTIPLE = 4
"""Sides that are multiples of more than this are of windows of attention. For any size they take ten minutes and more
to trace, where one size takes one. Smaller multiples are of pixels that are gathered into channels."""
WINDOW_TILE_PX = 64
"""Side of the only tile of a network with windows when none is asked for."""

DEFAULT_TILE = InputSizes(onnx=None, plan=(DEFAULT_PLAN_TILE_PX, DEFAULT_PLAN_TILE_PX))


def parse_tile(text: str | None) -> InputSizes:
    """Read ``N``, ``HxW`` or ``dynamic``; None means an ONNX of any size and a plan of a fixed one.

    Raises:
        UsageError: not of these forms, or a side outside 1 to ``LARGEST_TILE_PX``.
    """
    if text is None:
        return DEFAULT_TILE
    if text == "dynamic":
        return InputSizes(onnx=None, plan=None)
    match = re.fullmatch(r"([0-9]+)(?:[xX]([0-9]+))?", text.strip(), re.ASCII)
    hint = f"Give N, HxW or dynamic, with sides from 1 to {LARGEST_TILE_PX} input pixels."
    # A number of thousands of digits is not worth converting.
    if match is None or len(text) > 20:
        raise UsageError(f"{text[:40]!r} is not a tile size.", hint)
    height = int(match[1])
    width = int(match[2]) if match[2] else height
    if not (1 <= height <= LARGEST_TILE_PX and 1 <= width <= LARGEST_TILE_PX):
        raise UsageError(f"a tile of {height}x{width} pixels is impossible.", hint)
    return InputSizes(onnx=(height, width), plan=(height, width))


def sizes_for(sizes: InputSizes, multiple_of: int, minimum: int) -> InputSizes:
    """Return ``sizes`` for a network that takes certain sides only, as in ``EngineInfo``.

    A plan's tile that nobody asked for is enlarged to one that the network takes.

    Raises:
        UsageError: a tile that was asked for is not one that the network takes.
    """
    taken = [taken_side(side, multiple_of, minimum) for side in sizes.plan or ()]
    if sizes.plan is None or taken == list(sizes.plan):
        return sizes
    if sizes == DEFAULT_TILE:
        return InputSizes(onnx=None, plan=(taken[0], taken[1]))
    raise UsageError(
        f"this network takes no tile of {sizes.plan[0]}x{sizes.plan[1]}: both sides must be "
        f"{sides_text(multiple_of, minimum)}.",
        f"Give --tile {'x'.join(str(side - multiple_of * (side > LARGEST_TILE_PX)) for side in taken)}.",
    )


def traced_sizes(sizes: InputSizes, multiple_of: int, minimum: int) -> InputSizes:
    """Return ``sizes_for`` a network that is to be traced: with windows, for one tile unless any size was asked for.

    Raises:
        UsageError: a tile that was asked for is not one that the network takes.
    """
    if sizes != DEFAULT_TILE or multiple_of <= LARGEST_FREE_MULTIPLE:
        return sizes_for(sizes, multiple_of, minimum)
    side = taken_side(WINDOW_TILE_PX, multiple_of, minimum)
    return InputSizes(onnx=(side, side), plan=(side, side))


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One export: which checkpoint becomes which files."""

    checkpoint: Path
    """A checkpoint, or an ONNX file of an earlier export to build a plan of."""
    folder: Path
    """Where the files go."""
    stem: str
    """Their name without suffix."""
    precision: Precision
    """Precision of the network's body."""
    tile: InputSizes
    max_batch: int
    """Largest number of tiles in one call."""
    builder: BuilderChoice | None
    """Which library builds a TensorRT plan; None for no plan."""
    exact: bool = False
    """Whether the variant for ``upscale --exact`` is written too, and of a plan its plan."""
    workspace_mib: int | None = None
    """Cap on the scratch memory of the plan's build; None for the builder's default."""
    options: PlanOptions = NO_OPTIONS
    """On what else than this machine the plan is to run."""
    calibrate: Path | None = None
    """Folder of images that the ranges of INT8 are measured on; None for those that ship with the package."""
    triton: ModelFolder | None = None
    """Where the network, or its plan, is written as a model for Triton too; None for nowhere."""

    def __post_init__(self) -> None:
        """Refuse a request that no export can satisfy."""
        self._check_options()
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= LARGEST_WORKSPACE_MIB:
            raise UsageError(
                f"a workspace of {self.workspace_mib} MiB is impossible.",
                f"Give --workspace from 1 to {LARGEST_WORKSPACE_MIB} MiB.",
            )
        if self.workspace_mib is not None and self.builder is None:
            raise UsageError("--workspace is for the build of a plan, and none was asked for.", "Give --trt as well.")
        if self.exact and self.precision == "bf16" and self.builder is None:
            raise UsageError(
                "--exact without a plan runs on a CPU, which computes no bf16.",
                "Give --trt bf16, or another precision.",
            )
        if self.exact and self.precision == "int8":
            # Means that differ in their last bits round to other levels, and these change some grey levels.
            raise UsageError(
                "--exact keeps tiles within one grey level of the whole image, which INT8 rounds too coarsely for.",
                "Give --precision fp16 or fp32.",
            )
        if self.calibrate is not None and self.precision != "int8":
            raise UsageError("--calibrate is for INT8, and it was not asked for.", "Give --precision int8 as well.")
        if not 1 <= self.max_batch <= LARGEST_BATCH:
            raise UsageError(
                f"a batch of {self.max_batch} tiles is impossible.", f"Give --max-batch from 1 to {LARGEST_BATCH}."
            )
        if self.stem in {"", ".."} or self.stem != Path(self.stem).name or self.stem.endswith((".onnx", ".plan")):
            raise UsageError(
                f"{self.stem!r} cannot name the files.",
                "Give a name without folder and suffix; --workdir says where they go.",
            )

        self._check_triton()

    def kept_for_triton(self) -> AbstractContextManager[None]:
        """Return what keeps others from the model for Triton, where one is asked for; see ``ModelFolder.kept``."""
        return self.triton.kept() if self.triton else nullcontext()

    def _check_triton(self) -> None:
        """Refuse a model that Triton could not name or run."""
        if self.triton is None:
            return
        if not self.stem.isprintable():  # its configuration is UTF-8
            raise UsageError(f"{self.stem!r} cannot name a model of Triton's.", "Give a printable name with -o.")
        if self.options.dla_core is not None and self.max_batch > 1:
            raise UsageError(
                "a DLA takes as many tiles as it was built for in every call, and Triton may have fewer.",
                "Give --max-batch 1.",
            )

    def _check_options(self) -> None:
        """Refuse options that no plan can have."""
        if self.options != NO_OPTIONS and self.builder is None:
            raise UsageError(
                "--version-compatible, --hardware-compatible and --dla are for a plan, and none was asked for.",
                "Give --trt as well.",
            )
        if self.options.dla_core is None:
            return
        if self.precision != DLA_PRECISION:
            raise UsageError(f"a DLA does not compute in {self.precision}.", f"Give --trt {DLA_PRECISION}.")
        if self.tile.plan is None:
            raise UsageError("a DLA knows one input size only.", "Give --tile N or HxW instead of dynamic.")


PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
"""onnxscript is what torch writes ONNX with; onnxruntime runs the result for the check."""


def require_packages() -> None:
    """Check that everything an export imports is there.

    Raises:
        MissingDependencyError: names all that is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"an export needs {', '.join(missing)}, which this Python does not have.",
            "Install what is missing: pip install 'drc-deploy[export]'.",
        )
