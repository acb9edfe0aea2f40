"""The TensorRT libraries: which one builds here, and the abilities of each."""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from drc_deploy.engine_info import Precision
from drc_deploy.errors import MissingDependencyError
from drc_deploy.export.request import BuilderChoice
from drc_deploy.export.trt.gpu import Gpu

LibraryName = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True, slots=True)
class Library:
    """An imported TensorRT."""

    name: LibraryName
    module: Any
    """The Python binding, which has no types."""

    @property
    def version(self) -> str:
        """Its exact version, to be recorded and never compared."""
        return str(self.module.__version__)

    @property
    def strongly_typed(self) -> bool:
        """Whether layers compute in the types that the ONNX has: everywhere but in TensorRT 8."""
        flags = self.module.NetworkDefinitionCreationFlag
        # TensorRT 11 and RTX know nothing else, and have dropped the flag of the older ones.
        return hasattr(flags, "STRONGLY_TYPED") or not hasattr(flags, "EXPLICIT_BATCH")

    @property
    def times_kernels(self) -> bool:
        """Whether a build measures kernels, chooses among them, and can keep what it measured.

        Attributes do not show it: TensorRT-RTX has the same ones, without effect.
        """
        return self.name == "tensorrt"

    @property
    def builds_for_later_versions(self) -> bool:
        """Whether a plan can be built that later versions run too.

        The flag alone does not show it: TensorRT-RTX has it, and its plans run only in the release that built them.
        """
        return self.name == "tensorrt" and hasattr(self.module.BuilderFlag, "VERSION_COMPATIBLE")

    @property
    def network_flags(self) -> int:
        """Bit mask for ``create_network``. The bits differ between versions: never write them as numbers."""
        flags = self.module.NetworkDefinitionCreationFlag
        if not hasattr(flags, "EXPLICIT_BATCH"):
            return 0
        wanted = getattr(flags, "STRONGLY_TYPED", flags.EXPLICIT_BATCH)
        return 1 << int(wanted)

    def start_builder(self, logger: Any) -> Any:
        """Return a ``Builder``.

        Raises:
            MissingDependencyError: the library gives none, as where the driver is too old for it.
        """
        try:
            return self.module.Builder(logger)
        except (TypeError, RuntimeError) as error:  # of the binding, where its library returns nothing
            raise MissingDependencyError(
                f"{self.name} {self.version} does not start here.", "Run `drc-deploy doctor`."
            ) from error

    def graph_precision(self, precision: Precision) -> Precision:
        """Precision that the ONNX must have for a plan of ``precision``.

        Raises:
            MissingDependencyError: this library has no such type.
        """
        if precision == "bf16" and not (self.strongly_typed and hasattr(self.module.DataType, "BF16")):
            raise MissingDependencyError(
                f"{self.name} {self.version} cannot build plans in bfloat16.",
                "Use TensorRT 10 or newer, or another precision.",
            )
        # In every version, nodes of the graph mark what is computed in INT8.
        return precision if self.strongly_typed or precision == "int8" else "fp32"


def find_library(choice: BuilderChoice, gpu: Gpu | None) -> Library:
    """Import the library that builds a plan here: ``tensorrt`` on a GPU, else ``tensorrt_rtx``.

    Args:
        choice: one of them by name, or ``auto``.
        gpu: of this machine.

    Raises:
        MissingDependencyError: the library is not installed, or needs a GPU that is not there.
    """
    if choice != "tensorrt_rtx" and gpu is not None and (module := _import("tensorrt")):
        return Library("tensorrt", module)
    if choice != "tensorrt" and (module := _import("tensorrt_rtx")):
        return Library("tensorrt_rtx", module)
    if choice == "tensorrt" and gpu is None:
        raise MissingDependencyError(
            "TensorRT builds plans only on the GPU that will run them, and this machine has none.",
            "Export on that machine, or use --builder tensorrt_rtx, which builds without a GPU.",
        )
    raise MissingDependencyError(
        f"no usable TensorRT library for --builder {choice} is installed here.",
        "Install one: pip install 'drc-deploy[rtx]' (builds without a GPU) or, on the machine with the GPU, "
        "pip install 'drc-deploy[trt]'; a Jetson has TensorRT from its JetPack.",
    )


def _import(name: LibraryName) -> Any | None:
    """Import a binding; None where it is missing or its own libraries do not load."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None
