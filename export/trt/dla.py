"""The DLA of a Jetson, a fixed-function accelerator next to the GPU: which layers run there, and which do not."""

from typing import Any

from drc_deploy.engine_info import DlaPlacement
from drc_deploy.errors import ArtefactError, MissingDependencyError
from drc_deploy.export.request import DLA_PRECISION
from drc_deploy.export.trt.layer_precision import LayerPrecision
from drc_deploy.export.trt.libraries import Library
from drc_deploy.runtime.backends.trt.plan import inspected_layers


def use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    """Place all layers that the DLA can run on it, and the others on the GPU.

    Raises:
        MissingDependencyError: this machine does not have that core. TensorRT would put every layer on the GPU.
    """
    cores = builder.num_DLA_cores
    if core >= cores:
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
