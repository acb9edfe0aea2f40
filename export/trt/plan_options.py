"""Plans for other TensorRT versions, other GPUs and the DLA, as far as the library that builds them can.

The DLA of a Jetson is a fixed-function accelerator next to the GPU: not all layers run there.
"""

from typing import Any

from drc_deploy.engine_info import NO_OPTIONS, DlaPlacement, PlanOptions
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.export.request import DLA_PRECISION
from drc_deploy.export.trt.layer_precision import LayerPrecision
from drc_deploy.export.trt.libraries import Library
from drc_deploy.export.trt.listeners import BuildLog, make_logger
from drc_deploy.runtime.backends.trt.plan import inspected_layers


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
        _use_dla(library, builder, config, options.dla_core)


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


def _use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    """Place all layers that the DLA can run on it, and the others on the GPU."""
    cores = builder.num_DLA_cores
    if core >= cores:  # TensorRT would put every layer on the GPU
        raise MissingDependencyError(
            f"{library.name} {library.version} finds {cores or 'no'} DLA cores here, and so no core {core}.",
            "Build on a Jetson that has them (AGX Orin, Orin NX), or leave out --dla.",
        )
    trt = library.module
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


class DlaLayers:
    """The layers of a network as its builder will place them."""

    def __init__(self, trt: Any, config: Any, network: Any) -> None:
        """Ask for each layer; ``config`` must be complete.

        Raises:
            ArtefactError: not one can run on the DLA.
        """
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        can_run = [config.can_run_on_DLA(layer) for layer in layers]
        on_dla = [layer for layer, can in zip(layers, can_run, strict=True) if can]
        if not on_dla:
            raise ArtefactError(
                f"the DLA can run none of the {len(layers)} layers of this network.", "Export without --dla."
            )
        on_gpu = [layer for layer, can in zip(layers, can_run, strict=True) if not can]
        self._names = tuple(layer.name for layer in on_dla)
        self._fallen_back = tuple(f"{layer.name} ({layer.type.name.lower()})" for layer in on_gpu)
        self._convolutions = sum(layer.type == trt.LayerType.CONVOLUTION for layer in on_dla)

    def placement(self, inspection: str) -> DlaPlacement:
        """Return the layers by place, with the engine's parts on the DLA where the inspector's JSON names them."""
        parts = [layer for layer in inspected_layers(inspection) if "dla" in str(layer.get("LayerType", "")).lower()]
        return DlaPlacement(self._names, self._fallen_back, tuple(str(layer.get("Name", "")) for layer in parts))

    def add_to(self, found: LayerPrecision | None) -> LayerPrecision:
        """Count the layers on the DLA too, which an engine holds as few large parts without a precision."""
        layers = dict(found.layers) if found else {}
        convolutions = dict(found.convolutions) if found else {}
        layers[DLA_PRECISION] = layers.get(DLA_PRECISION, 0) + len(self._names)
        convolutions[DLA_PRECISION] = convolutions.get(DLA_PRECISION, 0) + self._convolutions
        return LayerPrecision(layers, convolutions, "engine")
