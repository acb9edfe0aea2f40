"""Plans for other TensorRT versions, other GPUs and the DLA, as far as the library that builds them can."""

from typing import Any

from drc_deploy.engine_info import NO_OPTIONS, PlanOptions
from drc_deploy.errors import MissingDependencyError
from drc_deploy.export.trt.dla import use_dla
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.listeners import BuildLog, make_logger


def require_options(library: Library, options: PlanOptions) -> None:
    """Find out before the work starts whether ``library`` can build such plans here.

    Raises:
        MissingDependencyError: it cannot; the message says what can.
    """
    if options == NO_OPTIONS:
        return  # every library can, and a builder takes a second to start
    builder = library.start_builder(make_logger(library.module, BuildLog()))
    apply_options(library, builder, builder.create_builder_config(), options)


def apply_options(library: Library, builder: Any, config: Any, options: PlanOptions) -> None:
    """Set ``options`` in the configuration of a build.

    Raises:
        MissingDependencyError: as ``require_options``.
    """
    if options.version_compatible:
        _allow_later_versions(library, config)
    if options.hardware_compatible:
        _allow_other_gpus(library, config)
    if options.dla_core is not None:
        use_dla(library, builder, config, options.dla_core)


def _allow_later_versions(library: Library, config: Any) -> None:
    if not library.builds_for_later_versions:
        raise MissingDependencyError(
            f"{library.name} {library.version} builds plans only for its own version.",
            "Build with TensorRT 8.6 or newer (--builder tensorrt, on the machine with the GPU), or leave out "
            "--version-compatible.",
        )
    config.set_flag(library.module.BuilderFlag.VERSION_COMPATIBLE)


def _allow_other_gpus(library: Library, config: Any) -> None:
    # Not SAME_COMPUTE_CAPABILITY: only TensorRT 10.13 and later have it, and a fleet seldom has but one kind of GPU.
    wanted = library.module.HardwareCompatibilityLevel.AMPERE_PLUS
    config.hardware_compatibility_level = wanted
    # TensorRT-RTX has the attribute and ignores it with a warning: only reading it again shows that.
    if config.hardware_compatibility_level != wanted:
        raise MissingDependencyError(
            f"{library.name} {library.version} has no hardware compatibility to choose.",
            "Build with TensorRT 8.6 or newer (--builder tensorrt), or leave out --hardware-compatible: a plan of "
            "TensorRT-RTX is compiled for the RTX GPU that loads it.",
        )
