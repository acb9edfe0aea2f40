"""A plan, or an ONNX, in NVIDIA's ``trtexec``: what it says of itself is a time without the host's share.

Its defaults differ between versions (11 leaves copies out, and uses CUDA graphs and a spinning wait; 10 does the
reverse), so everything that it knows by name is asked for, and listed in the report.
"""

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from drc_deploy.bench.machine.commands import run_command
from drc_deploy.bench.measure.timing import Round, TimingBudget
from drc_deploy.bench.programs.program_backend import TIMED, ProgramBackend, ProgramRequest, Upscale
from drc_deploy.engine_info import INPUT_NAME, OUTPUT_NAME, EngineInfo, read_onnx_info, read_sidecar
from drc_deploy.errors import ArtefactError
from drc_deploy.files import scratch_folder
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Pixels, check_batch

PROGRAM = "trtexec"
JETPACK_PROGRAM = Path("/usr/src/tensorrt/bin/trtexec")
"""Where JetPack and NVIDIA's Debian packages put it, outside the search path."""
BUILD_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 120.0
"""For a run, in addition to the time that it is asked to measure."""
WARM_UP_MS = 200
RUN_FLAGS = ("--includeDataTransfers", "--useSpinWait", "--useCudaGraph")
"""Those of them that a version does not list in its help it does by itself, or cannot."""
BUILD_FLAGS = ("--stronglyTyped", "--noTF32", "--skipInference")


def find_program() -> str | None:
    """Return the path of ``trtexec``; None where it is not installed."""
    return shutil.which(PROGRAM) or shutil.which(str(JETPACK_PROGRAM))


class TrtexecProgram(ProgramBackend):
    """``trtexec`` over a plan; of an ONNX it builds one first, for inputs of one size.

    What it takes of the GPU cannot be seen from here, since it ends after every call.
    """

    ways = ("fixed size",)
    packages = ()
    install = "It comes with NVIDIA's TensorRT packages and with JetPack, not with pip; put it in the PATH."
    suffixes = (".plan", ".onnx")
    _device = PROGRAM

    def __init__(self, request: ProgramRequest) -> None:
        """Load a plan, or build one for inputs of ``request.size``."""
        path, self._program = request.path, find_program() or PROGRAM
        self._held = ExitStack()
        self._folder = self._held.enter_context(scratch_folder())
        self._known = self._call(["--help"], RUN_TIMEOUT_S, may_fail=True)
        info = _read_info(path)
        height, width = info.taken_sides(*request.size)
        self._info = dataclasses.replace(info, tile=(height, width), max_batch=1)
        self._fixed_shape = info.tile is not None and info.max_batch == 1
        self._plan = path if path.suffix == ".plan" else self._build(path)
        self._warnings: set[str] = set()
        version = re.search(r"TensorRT(?:\.trtexec \[TensorRT)? v(?:ersion: )?([\d.]+)", self._known)
        self.settings = {
            "trtexec": version[1] if version else "of unknown version",
            "flags": " ".join(self._run_flags),
            TIMED: "copy to the GPU, computation and copy back, by the GPU's events; nothing of the host",
            "host memory": "of the process that starts trtexec",
        }

    @classmethod
    def missing(cls) -> list[str]:
        """Return the program where it is not installed."""
        return [] if find_program() else [PROGRAM]

    def _build(self, onnx: Path) -> Path:
        plan = self._folder / "built.plan"
        shapes = [] if self._fixed_shape else [f"--{which}Shapes={self._shape}" for which in ("min", "opt", "max")]
        flags = [f"--onnx={onnx}", f"--saveEngine={plan}", *shapes, *self._supported(BUILD_FLAGS)]
        self._call(flags, BUILD_TIMEOUT_S)
        return plan

    @property
    def _shape(self) -> str:
        height, width = self._info.tile or (0, 0)
        return f"{INPUT_NAME}:1x{height}x{width}x3"

    def _supported(self, flags: Sequence[str]) -> list[str]:
        return [flag for flag in flags if re.search(rf"{flag}\b", self._known)]

    @property
    def _run_flags(self) -> list[str]:
        shapes = [] if self._fixed_shape else [f"--shapes={self._shape}"]
        return [*shapes, *self._supported(RUN_FLAGS)]

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch of one; see ``Backend.run``."""
        check_batch(batch, self._info)
        output = self._folder / "output.json"
        self._infer(batch, ["--warmUp=0", "--duration=0", "--iterations=1", f"--exportOutput={output}"], RUN_TIMEOUT_S)
        tile = self._info.tile or (0, 0)
        shape = (1, *(side * self._info.scale for side in tile), 3)
        return read_output(output, shape, self._info.io_dtype)

    def time(self, upscale: Upscale, image: UInt8Image, budget: TimingBudget) -> Round:
        """Let it time itself; ``image`` as large as the tile."""
        times = self._folder / "times.json"
        start = time.perf_counter()
        flags = [f"--warmUp={WARM_UP_MS}", f"--duration={max(round(budget.min_seconds), 1)}"]
        flags += [f"--iterations={budget.min_runs}", f"--exportTimes={times}"]
        if image.shape[:2] != self._info.tile:
            raise ArtefactError(
                f"trtexec runs single tiles of {self._info.tile}, and the input is {image.shape[:2]}.",
                "Give --size as large as the plan's tile.",
            )
        batch = image[None].astype(np.dtype(self._info.io_dtype))
        said = self._infer(batch, flags, RUN_TIMEOUT_S + budget.min_seconds)
        self._warnings.update(re.findall(r"\[W\] \* (.+)", said))
        if self._warnings:
            self.settings["trtexec warns"] = " ".join(sorted(self._warnings))
        return Round(start, time.perf_counter(), read_times(times))

    def _infer(self, batch: Pixels, flags: Sequence[str], timeout_s: float) -> str:
        content = self._folder / "input.bin"
        content.write_bytes(np.ascontiguousarray(batch).tobytes())
        fixed = [f"--loadEngine={self._plan}", f"--loadInputs={INPUT_NAME}:{content}"]
        return self._call([*fixed, *self._run_flags, *flags], timeout_s)

    def _call(self, flags: Sequence[str], timeout_s: float, *, may_fail: bool = False) -> str:
        command = [self._program, *flags]
        return run_command(command, timeout_s=timeout_s, error=ArtefactError, may_fail=may_fail)

    def close(self) -> None:
        """Remove what was built."""
        self._held.close()


def _read_info(path: Path) -> EngineInfo:
    if path.suffix == ".onnx":
        return read_onnx_info(path)
    sidecar = read_sidecar(path)
    if sidecar is None:
        raise ArtefactError(f"{path} has no sidecar, which says what it takes.", "Export the plan again.")
    return sidecar.engine


def read_times(path: Path) -> tuple[float, ...]:
    """Return the milliseconds of each query that ``--exportTimes`` wrote: copies and computation.

    Raises:
        ArtefactError: the file is not that.
    """
    try:
        times = tuple(float(query["latencyMs"]) for query in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"trtexec wrote no times that can be read: {type(error).__name__}: {error}.") from error
    if not times or min(times) <= 0:
        raise ArtefactError("trtexec wrote no times.")
    return times


def read_output(path: Path, shape: tuple[int, ...], dtype: str) -> Pixels:
    """Return the image that ``--exportOutput`` wrote as an array of ``shape``.

    Raises:
        ArtefactError: the file is not that.
    """
    try:
        tensors = {tensor["name"]: tensor["values"] for tensor in json.loads(path.read_text(encoding="utf-8"))}
        return np.array(tensors[OUTPUT_NAME], np.dtype(dtype)).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ArtefactError(f"trtexec wrote no output that can be read: {type(error).__name__}: {error}.") from error
