"""An onnxruntime that claims CUDA or OpenVINO, and lets its own CPU provider compute what they would."""

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from drc_deploy.runtime.backends.ort import providers as onnx_providers

CPU, CUDA, OPENVINO = "CPUExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider"
CONFIG_KEYS = ("session.disable_cpu_ep_fallback", "session.use_env_allocators")


class FakeOnnxRuntime:
    """What was asked of it, and how it shall behave.

    Attributes:
        broken: Message with which the provider refuses to open a session; empty: it does not.
        falls_back: Whether the CPU provider takes its place then, as is printed; otherwise this is an error.
        silent: Whether the provider is left out without an error, as CUDA is where its libraries are missing.
        missing: What ``preload_dlls`` prints.
        sessions: Of each session that was asked for its providers and its configuration.
        fallbacks_disabled: How many sessions will not fall back in a run.
        allocated: Shapes of the values that were made on the device.
        during_run: Called while a bound run is under way.
    """

    def __init__(
        self, provider: str, *, broken: str = "", falls_back: bool = False, silent: bool = False, missing: str = ""
    ) -> None:
        self.provider, self.broken, self.falls_back = provider, broken, falls_back
        self.silent, self.missing = silent, missing
        self.sessions: list[tuple[list[Any], dict[str, str]]] = []
        self.fallbacks_disabled = 0
        self.allocated: list[tuple[int, ...]] = []
        self.uploads, self.runs, self.runs_now, self.most_runs_at_a_time = 0, 0, 0, 0
        self.during_run: Callable[[], None] = lambda: None
        self.severity = 2
        self.changed = threading.Condition()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put this in the place of ``onnxruntime`` for one test."""
        module = types.ModuleType("onnxruntime")
        vars(module).update({name: value for name, value in vars(onnxruntime).items() if not name.startswith("__")})
        content = {
            "get_available_providers": lambda: [self.provider, CPU],
            "InferenceSession": _session_class(self),
            "OrtValue": types.SimpleNamespace(ortvalue_from_shape_and_type=self._allocate),
            "preload_dlls": lambda: print(self.missing) if self.missing else None,  # noqa: T201 - as the real one does
            "set_default_logger_severity": lambda level: setattr(self, "severity", level),
        }
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        monkeypatch.setattr(onnx_providers, "has_cuda_driver", lambda: True)
        onnx_providers._preload_cuda_libraries.cache_clear()
        onnx_providers._warn_once.cache_clear()

    def _allocate(self, shape: list[int], dtype: np.dtype[Any], device: str, index: int) -> Any:
        assert (device, index) == ("cuda", 0)
        self.allocated.append(tuple(shape))
        return _FakeValue(self, onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, "cpu", 0))


class _FakeValue:
    """An array on the device: it is never given away, only copied."""

    def __init__(self, fake: FakeOnnxRuntime, real: Any) -> None:
        self._fake, self.real = fake, real

    def update_inplace(self, array: np.ndarray) -> None:
        self.real.update_inplace(array)
        with self._fake.changed:
            self._fake.uploads += 1
            self._fake.changed.notify_all()

    def numpy(self) -> np.ndarray:
        copy: np.ndarray = self.real.numpy().copy()
        return copy


class _FakeBinding:
    def __init__(self, fake: FakeOnnxRuntime, real: Any) -> None:
        self._fake, self.real = fake, real

    def bind_ortvalue_input(self, name: str, value: _FakeValue) -> None:
        self.real.bind_ortvalue_input(name, value.real)

    def bind_cpu_input(self, name: str, array: np.ndarray) -> None:
        self.real.bind_cpu_input(name, array)

    def bind_output(self, name: str, device: str, index: int) -> None:
        assert (device, index) == ("cuda", 0)
        self.real.bind_output(name, "cpu", 0)

    def bind_ortvalue_output(self, name: str, value: _FakeValue) -> None:
        self.real.bind_ortvalue_output(name, value.real)

    def get_outputs(self) -> list[_FakeValue]:
        values = [_FakeValue(self._fake, value) for value in self.real.get_outputs()]
        self._fake.allocated += [tuple(value.real.shape()) for value in values]
        return values


def _session_class(fake: FakeOnnxRuntime) -> type:
    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str | Path, options: Any, providers: list[Any]) -> None:
            entries = {}
            for key in CONFIG_KEYS:
                try:
                    entries[key] = options.get_session_config_entry(key)
                except RuntimeError:
                    continue
            fake.sessions.append((providers, entries))
            first = providers[0] if isinstance(providers[0], str) else providers[0][0]
            broken = first != CPU and fake.broken
            if broken and not fake.falls_back:
                raise RuntimeError(fake.broken)
            if broken:
                print(f"*** EP Error ***\nEP Error {fake.broken} when using {first}")  # noqa: T201 - as the real one does
            self._names = [CPU] if broken or fake.silent else [first, CPU]
            plain = onnxruntime.SessionOptions()
            plain.log_severity_level = options.log_severity_level
            super().__init__(path, plain, providers=[CPU])

        def get_providers(self) -> list[str]:
            return self._names

        def disable_fallback(self) -> None:
            fake.fallbacks_disabled += 1

        def io_binding(self) -> _FakeBinding:
            return _FakeBinding(fake, super().io_binding())

        def run_with_iobinding(self, binding: _FakeBinding) -> None:
            with fake.changed:
                fake.runs_now += 1
                fake.most_runs_at_a_time = max(fake.most_runs_at_a_time, fake.runs_now)
            fake.during_run()
            super().run_with_iobinding(binding.real)
            with fake.changed:
                fake.runs += 1
                fake.runs_now -= 1

    return Session
