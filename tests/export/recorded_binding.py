"""A stand-in for a TensorRT binding that has exactly the attributes recorded from a real one.

``tests/runtime/fixtures`` holds, for each version, the members of the enums with their values and the public
attributes of each class. Touching any other attribute of a recorded class fails the test.
"""

import ast
import enum
from pathlib import Path
from typing import Any

LISTINGS = Path(__file__).parents[1] / "runtime" / "fixtures"
VERSIONS = sorted(path.stem for path in LISTINGS.glob("tensorrt-*.txt"))


class Instance:
    """An object of a recorded class; ``behaviour`` answers what the recording cannot."""

    def __init__(self, binding: "RecordedBinding", kind: str, **behaviour: Any) -> None:
        self.__dict__.update(_binding=binding, _kind=kind, _behaviour=behaviour, set={})

    def _check(self, name: str) -> None:
        if name not in self._binding.members[self._kind]:
            raise AssertionError(f"{self._kind} has no {name} in {self._binding.__version__}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._check(name)
        return self._behaviour.get(name, lambda *arguments: self._binding.calls.append((self._kind, name, arguments)))

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        self.set[name] = value


class RecordedBinding:
    """Imitates the module ``tensorrt`` or ``tensorrt_rtx`` of one version, building a plan of two convolutions."""

    def __init__(self, version: str, *, kinds: tuple[str, ...], inspection: str = "{}") -> None:
        self.members: dict[str, list[str]] = {}
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self._enums: dict[str, Any] = {}
        lines = (LISTINGS / f"{version}.txt").read_text(encoding="utf-8").splitlines()
        self.__version__ = lines[0]
        for line in lines[1:]:
            self._read(line)
        if "progress_monitor" in self.members["IBuilderConfig"]:
            self._enums["IProgressMonitor"] = type("IProgressMonitor", (), {})
        self._kinds, self._inspection = kinds, inspection

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

    def _read(self, line: str) -> None:
        if line.startswith("== "):
            kind, attributes = line.removeprefix("== ").split(" ", 1)
            self.members[kind] = ast.literal_eval(attributes)
        elif not line.endswith("ABSENT"):
            name, values = line.split(" ", 1)
            self._enums[name] = enum.IntEnum(name, ast.literal_eval(values))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._enums:
            raise AttributeError(f"no {name} in {self.__version__}")
        return self._enums[name]

    def Builder(self, logger: Any) -> Instance:  # noqa: N802 (the library's name)
        return Instance(
            self,
            "Builder",
            create_network=self._network,
            create_builder_config=lambda: Instance(
                self,
                "IBuilderConfig",
                add_optimization_profile=lambda _: 0,
                create_timing_cache=self._timing_cache,
                set_timing_cache=self._set_timing_cache,
            ),
            create_optimization_profile=lambda: Instance(self, "IOptimizationProfile"),
            build_serialized_network=lambda network, config: b"plan",
        )

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
        layers = [layer for index, kind in enumerate(self._kinds) for layer in self._convolution(str(index), kind)]
        return Instance(self, "INetworkDefinition", num_layers=len(layers), get_layer=lambda i: layers[i])

    def _convolution(self, name: str, kind: str) -> list[Instance]:
        """Give a convolution that gives ``kind``; with INT8, one between float tensors that come out of int8 ones."""
        quantised, float32 = self._tensor(f"{name}.int8", "INT8"), self._tensor(name, "FLOAT")
        if kind != "INT8":
            return [self._layer(self.LayerType.CONVOLUTION, self._tensor(f"{name}.in", kind), self._tensor(name, kind))]
        return [
            self._layer(self.LayerType.DEQUANTIZE, quantised, float32),
            self._layer(self.LayerType.CONVOLUTION, float32, self._tensor(f"{name}.out", "FLOAT")),
        ]

    def _tensor(self, name: str, kind: str) -> Instance:
        return Instance(self, "ITensor", name=name, dtype=self.DataType[kind])

    def _layer(self, kind: LayerType, reads: Instance, gives: Instance) -> Instance:
        return Instance(self, "ILayer", type=kind, num_outputs=1, get_input=lambda _: reads, get_output=lambda _: gives)

    def OnnxParser(self, network: Instance, logger: Any) -> Instance:  # noqa: N802
        return Instance(self, "OnnxParser", parse_from_file=lambda path: True, num_errors=0)

    def Runtime(self, logger: Any) -> Instance:  # noqa: N802
        inspector = Instance(self, "EngineInspector", get_engine_information=lambda kind: self._inspection)
        engine = Instance(self, "ICudaEngine", create_engine_inspector=lambda: inspector)
        return Instance(self, "Runtime", deserialize_cuda_engine=lambda plan: engine)
