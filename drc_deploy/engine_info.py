"""Metadata of an engine file: the contract between export, runtime and bench.

An ONNX file carries an ``EngineInfo`` as JSON in ``metadata_props`` under the key ``METADATA_KEY``; a plan carries
it inside the sidecar ``NAME.plan.json`` (``PlanSidecar``). The network's input is called ``INPUT_NAME`` and its output
``OUTPUT_NAME``; both are NHWC RGB, either uint8 in [0, 255] or float32 in [0, 255]. A blind network takes the blur
kernel of the image as ``KERNEL_NAME`` in two further files: one finds it, and the other is given it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drc_deploy import records
from drc_deploy.errors import ArtefactError
from drc_deploy.input_files import read_text
from drc_deploy.onnx_metadata import read_onnx_metadata

METADATA_KEY = "drc_deploy"
INPUT_NAME = "lr"
OUTPUT_NAME = "sr"
KERNEL_NAME = "kernel"
"""The blur of a tile: (N, 1, k, k) float32 from ``NAME.kernel.onnx``, and (1, 1, k, k) for ``NAME.restorer.onnx``."""
KEPT_NAME, MEANS_NAME, GIVEN_NAME, SEEN_NAME = "kept", "means", "given", "seen"
"""Further inputs and outputs of ``NAME.exact.onnx``: see ``export/graph/exact_graph.py``."""

FLOAT_SUFFIX, EXACT_SUFFIX = ".float.onnx", ".exact.onnx"
"""Files next to ``NAME.onnx`` that serve it: for 16-bit images, and for exact tiles."""
EXACT_PLAN_SUFFIX = ".exact.plan"
"""The file next to ``NAME.plan`` that serves it for exact tiles."""
KERNEL_SUFFIX, RESTORER_SUFFIX = ".kernel.onnx", ".restorer.onnx"
"""Parts of a blind network next to ``NAME.onnx``: what estimates the blur kernel, and what is given it."""
KERNEL_PLAN_SUFFIX, RESTORER_PLAN_SUFFIX = ".kernel.plan", ".restorer.plan"
"""The same next to ``NAME.plan``."""
_SERVING = (
    *(FLOAT_SUFFIX, EXACT_SUFFIX, EXACT_PLAN_SUFFIX),
    *(KERNEL_SUFFIX, RESTORER_SUFFIX, KERNEL_PLAN_SUFFIX, RESTORER_PLAN_SUFFIX),
)

Precision = Literal["fp32", "fp16", "bf16", "int8"]
CHECKPOINT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
"""In which a checkpoint can be run; INT8 needs the calibration of an export."""
IoDtype = Literal["uint8", "float32"]


LARGEST_SCALE, LARGEST_SIDE = 64, 1 << 14
"""Of an engine's metadata. An image is filled up to the least side, and a file could ask for any."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts that a runtime needs to run a network."""

    model: str
    """Name of the architecture, for example ``drn_s``."""
    scale: int
    """Upscaling factor: an input of H x W becomes scale*H x scale*W."""
    precision: Precision
    """Precision of the network's body. The input is prepared and the output finished in float32 always."""
    io_dtype: IoDtype
    """Element type of input and output. float32 I/O is for 16-bit images: the same [0, 255] range, not rounded."""
    tile: tuple[int, int] | None
    """Height and width that the input must have, in input pixels; None when any size is accepted."""
    max_batch: int
    """Largest number of tiles in one call; any number from 1 to this is accepted."""
    receptive_field: int
    """How far one output pixel sees on each side, in input pixels, through local operations."""
    global_operations: bool
    """Whether some operation sees the whole tile (channel attention) or how large it is: tiling cannot be exact."""
    params: int
    """Number of parameters of the network."""
    widths: tuple[int, ...]
    """Channels left in each prunable layer, in the model's own order."""
    checkpoint_sha256: str
    """SHA-256 of the checkpoint that the network was exported from."""
    int8_form: Literal["cpu", "tensorrt"] | None = None
    """Which library the INT8 graph is for, since none reads what is fast in the other; None in another precision."""
    cpu_bytes_per_pixel: int | None = None
    """Memory that ONNX Runtime takes on a CPU for each input pixel of a tile; None when it was not measured."""
    multiple_of: int = 1
    """Sides of every input and places of tiles are multiples of this, in input pixels: windows of attention lie on such
    a grid."""
    minimum: int = 1
    """Least side of an input, in input pixels; it need not be a multiple itself."""
    kernel_size: int | None = None
    """Side of the blur kernel that a blind network estimates, in input pixels, odd; None: the network is not blind."""

    def __post_init__(self) -> None:
        """Refuse numbers that no network can have, and those that images would be filled up to."""
        if self.scale < 1 or self.max_batch < 1 or self.receptive_field < 0:
            raise ValueError("scale and max_batch must be at least 1 and receptive_field at least 0")
        if self.cpu_bytes_per_pixel is not None and self.cpu_bytes_per_pixel < 1:
            raise ValueError("a pixel takes at least one byte")
        if self.tile is not None and min(self.tile) < 1:
            raise ValueError("both sides of the tile must be at least 1")
        if self.multiple_of < 1 or self.minimum < 1:
            raise ValueError("multiple_of and minimum must be at least 1")
        if self.scale > LARGEST_SCALE or max(self.multiple_of, self.minimum, *(self.tile or ())) > LARGEST_SIDE:
            raise ValueError(f"no scale is above {LARGEST_SCALE}, and no side of an input above {LARGEST_SIDE}")
        if self.kernel_size is not None and (self.kernel_size < 1 or self.kernel_size % 2 == 0):
            raise ValueError("the side of a blur kernel is odd")
        if self.tile is not None and any(side != self.taken_side(side) for side in self.tile):
            raise ValueError(f"both sides of the tile must be {self.sides}")

    @property
    def sides(self) -> str:
        """Which sides an input may have, in words."""
        return sides_text(self.multiple_of, self.minimum)

    def taken_side(self, side: int) -> int:
        """Return the least side of an input, at least ``side``, that the network takes."""
        return taken_side(side, self.multiple_of, self.minimum)

    def taken_sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the tile, or the least height and width of an input that are at least these."""
        return self.tile or (self.taken_side(height), self.taken_side(width))

    def to_json(self) -> str:
        """Return this record as JSON text."""
        return records.to_json(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> "EngineInfo":
        """Read the record in the metadata of the ONNX file ``path``.

        Raises:
            ArtefactError: there is none, or it is damaged.
        """
        if METADATA_KEY not in metadata:
            raise ArtefactError(
                f"{path} is an ONNX file of another program.", "Make one with `drc-deploy export CHECKPOINT`."
            )
        return records.from_dict(cls, records.parse_json_object(metadata[METADATA_KEY], str(path)), str(path))


def taken_side(side: int, multiple_of: int, minimum: int) -> int:
    """Return the least multiple of ``multiple_of`` that is at least ``side`` and ``minimum``."""
    return -(-max(side, minimum) // multiple_of) * multiple_of


def sides_text(multiple_of: int, minimum: int) -> str:
    """Say in words which sides an input may have: ``multiples of 8, at least 16``."""
    least = taken_side(1, multiple_of, minimum)
    if multiple_of == 1:
        return f"at least {least}"
    return f"multiples of {multiple_of}" + (f", at least {least}" if least > multiple_of else "")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """On what else than the machine that builds it a plan is to run."""

    version_compatible: bool = False
    """Whether later versions of TensorRT run it too. Such a plan brings code of its own, which they execute."""
    hardware_compatible: bool = False
    """Whether it runs on every GPU from Ampere (compute capability 8.0) on."""
    dla_core: int | None = None
    """The deep learning accelerator of a Jetson that computes what it can; None for the GPU alone."""

    def __post_init__(self) -> None:
        """Refuse what no machine has."""
        if self.dla_core is not None and self.dla_core < 0:
            raise ValueError(f"there is no DLA core {self.dla_core}")


NO_OPTIONS = PlanOptions()
"""A plan for the version, GPU and nothing else that it is built with."""


@dataclass(frozen=True, slots=True)
class DlaPlacement:
    """Which layers of a plan run on the DLA, and which fell back to the GPU."""

    on_dla: tuple[str, ...]
    """Layers of the network that the builder places on the DLA."""
    on_gpu: tuple[str, ...]
    """Layers that the DLA cannot run, each as ``name (kind)``."""
    in_engine: tuple[str, ...]
    """Parts of the finished engine that its inspector says are on the DLA; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class PlanSidecar:
    """``NAME.plan.json``: where a TensorRT plan comes from and what was found in it."""

    engine: EngineInfo
    builder: Literal["tensorrt", "tensorrt_rtx"]
    """Which library built the plan and must run it."""
    builder_version: str
    """Exact version of the builder, for example ``1.7.1.116``."""
    gpu: str | None
    """GPU that the plan was built on; None when it was built without one."""
    compute_capability: str | None
    """For example ``8.7``; None when built without a GPU."""
    driver: str | None
    """Version of the NVIDIA driver at build time."""
    onnx_file: str
    """Name of the ONNX file next to the plan that it was built from."""
    onnx_sha256: str
    plan_sha256: str
    precision_requested: Precision
    layers_by_precision: dict[str, int]
    """Number of layers whose output has each precision, from the engine inspector, or else from the graph."""
    precision_source: str
    """Where ``layers_by_precision`` comes from: ``engine`` or ``graph``."""
    verification: dict[str, Any]
    """Result of the export's check against torch."""
    workspace_mib: int | None = None
    """Cap on the builder's scratch memory that was asked for; None for the default."""
    recipe: int = 0
    """Version of the other settings of the build; 0 in files from before it was recorded."""
    options: PlanOptions = NO_OPTIONS
    """Machines other than the builder that the plan must run on."""
    dla: DlaPlacement | None = None
    """What runs on the DLA; None where none was asked for."""

    def __post_init__(self) -> None:
        """Refuse a path where the name of a neighbour is meant."""
        if not self.onnx_file or Path(self.onnx_file).name != self.onnx_file:
            raise ValueError(f"{self.onnx_file!r} is not the name of a file")

    def to_json(self) -> str:
        """Return this record as JSON text."""
        return records.to_json(self)


def blind_parts(engine: Path) -> tuple[Path, Path]:
    """Return the parts of a blind network next to its ``.onnx`` or ``.plan``: what finds a blur, what is given it."""
    return engine.with_suffix(f".kernel{engine.suffix}"), engine.with_suffix(f".restorer{engine.suffix}")


def is_own_engine(path: Path) -> bool:
    """Return whether a name is that of an engine; not of a file that goes with one, or that is being written."""
    return not path.name.endswith(_SERVING) and not path.name.startswith(".")


def read_onnx_info(path: Path) -> EngineInfo:
    """Read what an ONNX file says about itself, without the onnx package.

    Raises:
        ArtefactError: it cannot be read, or is of another program.
    """
    return EngineInfo.from_metadata(read_onnx_metadata(path), path)


def sidecar_path(plan: Path) -> Path:
    """Return the path of a plan's sidecar: ``x.plan`` -> ``x.plan.json``."""
    return plan.with_name(plan.name + ".json")


def read_sidecar(plan: Path) -> PlanSidecar | None:
    """Read the sidecar of ``plan``; None when there is none.

    Raises:
        ArtefactError: the sidecar is damaged or of another version.
    """
    path = sidecar_path(plan)
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}.", "Export the plan again.") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not text.", "Export the plan again.") from error
    return records.from_dict(PlanSidecar, records.parse_json_object(text, str(path)), str(path))
