"""A stand-in for a TensorRT binding that has exactly the attributes recorded from a real one.

Touching any other attribute of a recorded class fails the test.
"""

import enum
from typing import Any

from tests.tensorrt_api import read_listing


class Instance:
    """An object of a recorded class; ``behaviour`` answers what the recording cannot."""

    def __init__(self, binding: "RecordedBinding", kind: str, **behaviour: Any) -> None:
        self.__dict__.update(_binding=binding, _kind=kind, _behaviour=behaviour, set={})

    def _check(self, name: str) -> None:
        if name not in self._binding.listing.classes[self._kind]:
            raise AssertionError(f"{self._kind} has no {name} in {self._binding.__version__}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._check(name)
        if name in self.set:
            return self.set[name]
        return self._behaviour.get(name, lambda *arguments: self._binding.calls.append((self._kind, name, arguments)))

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        if name in self._binding.ignored:
            value = type(value)(0)
        self.set[name] = value


class RecordedBinding:
    """Imitates the module ``tensorrt`` or ``tensorrt_rtx`` of one version, building a plan of two convolutions."""

    def __init__(
        self, version: str, *, kinds: tuple[str, ...], inspection: str = "{}", dla: tuple[bool, ...] | None = None
    ) -> None:
        """Make one.

        Args:
            version: one of ``VERSIONS``.
            kinds: type of the output of each layer of the network, all of them convolutions.
            inspection: what the inspector says of the engine.
            dla: which layers can run on one of two DLA cores; None where there is no DLA.
        """
        self.listing = read_listing(version)
        self.__version__ = self.listing.version
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.configs: list[Instance] = []
        self.runtimes: list[Instance] = []
        # As TensorRT-RTX 1.7.1 was seen to do: it gives back NONE.
        self.ignored = {"hardware_compatibility_level"} if self.listing.library == "tensorrt_rtx" else set()
        self._enums: dict[str, Any] = {name: enum.IntEnum(name, values) for name, values in self.listing.enums.items()}
        if self.listing.has("", "IProgressMonitor"):
            self._enums["IProgressMonitor"] = type("IProgressMonitor", (), {})
        self._kinds, self._inspection, self._dla = kinds, inspection, dla

    damaged, of_another_gpu = b"damaged", b"another GPU"
    """Timing caches that are refused, each at its own step."""

    class ILogger:
        """Its severities are not in the recording."""

        INTERNAL_ERROR, ERROR, WARNING = range(3)

    class IErrorRecorder:
        """A base class without behaviour."""

    class LayerType(enum.Enum):
        """Not in the recording; these members are in every version."""

        CONVOLUTION = enum.auto()
        ACTIVATION = enum.auto()
        DEQUANTIZE = enum.auto()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._enums:
            raise AttributeError(f"no {name} in {self.__version__}")
        return self._enums[name]

    def Builder(self, logger: Any) -> Instance:  # noqa: N802 (the library's name)
        return Instance(
            self,
            "Builder",
            num_DLA_cores=0 if self._dla is None else 2,
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: Instance(self, "IOptimizationProfile"),
            build_serialized_network=lambda network, config: b"plan",
        )

    def _config(self) -> Instance:
        config = Instance(
            self,
            "IBuilderConfig",
            add_optimization_profile=lambda _: 0,
            create_timing_cache=self._timing_cache,
            set_timing_cache=self._set_timing_cache,
            can_run_on_DLA=lambda layer: (self._dla or ())[int(layer.name.removeprefix("layer_"))],
        )
        self.configs.append(config)
        return config

    def _timing_cache(self, content: bytes) -> Instance | None:
        self.calls.append(("IBuilderConfig", "create_timing_cache", (content,)))
        if content == self.damaged:
            return None
        return Instance(self, "ITimingCache", serialize=lambda: content + b"+measured")

    def _set_timing_cache(self, cache: Instance, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return not cache.serialize().startswith(self.of_another_gpu)

    def _network(self, flags: int) -> Instance:
        self.calls.append(("Builder", "create_network", (flags,)))
        layers = [
            layer for index, kind in enumerate(self._kinds) for layer in self._convolution(f"layer_{index}", kind)
        ]
        return Instance(self, "INetworkDefinition", num_layers=len(layers), get_layer=lambda i: layers[i])

    def _convolution(self, name: str, kind: str) -> list[Instance]:
        """Return a convolution that gives ``kind``; with INT8, one between float tensors that come out of int8 ones."""
        quantised, float32 = self._tensor(f"{name}.int8", "INT8"), self._tensor(name, "FLOAT")
        if kind != "INT8":
            tensors = self._tensor(f"{name}.in", kind), self._tensor(name, kind)
            return [self._layer(name, self.LayerType.CONVOLUTION, *tensors)]
        return [
            self._layer(f"{name}.dequantise", self.LayerType.DEQUANTIZE, quantised, float32),
            self._layer(name, self.LayerType.CONVOLUTION, float32, self._tensor(f"{name}.out", "FLOAT")),
        ]

    def _tensor(self, name: str, kind: str) -> Instance:
        return Instance(self, "ITensor", name=name, dtype=self.DataType[kind])

    def _layer(self, name: str, kind: LayerType, reads: Instance, gives: Instance) -> Instance:
        ends = {"get_input": lambda _: reads, "get_output": lambda _: gives}
        return Instance(self, "ILayer", name=name, type=kind, num_outputs=1, **ends)

    def OnnxParser(self, network: Instance, logger: Any) -> Instance:  # noqa: N802
        return Instance(self, "OnnxParser", parse_from_file=lambda path: True, num_errors=0)

    def Runtime(self, logger: Any) -> Instance:  # noqa: N802
        inspector = Instance(self, "EngineInspector", get_engine_information=lambda kind: self._inspection)
        engine = Instance(self, "ICudaEngine", create_engine_inspector=lambda: inspector)
        self.runtimes.append(Instance(self, "Runtime", deserialize_cuda_engine=lambda plan: engine))
        return self.runtimes[-1]
