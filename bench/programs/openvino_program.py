"""An exported ONNX in OpenVINO itself, on the CPU, in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from drc_deploy.bench.measure.timing import Round, TimingBudget, time_runs
from drc_deploy.bench.programs.program_backend import TIMED, ProgramBackend, ProgramRequest, Upscale
from drc_deploy.engine_info import read_onnx_info
from drc_deploy.errors import ArtefactError
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Pixels, check_batch


class OpenVinoProgram(ProgramBackend):
    """OpenVINO over a file that ``drc-deploy export`` wrote."""

    ways = ("latency", "throughput")
    packages = ("openvino",)
    install = "Install it: pip install openvino."
    suffixes = (".onnx",)

    def __init__(self, request: ProgramRequest) -> None:
        """Compile an ONNX; the variant is the performance hint."""
        import openvino

        path, self._openvino, self._hint = request.path, openvino, request.variant
        self._info = read_onnx_info(path)
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": self._hint.upper(),
            "INFERENCE_PRECISION_HINT": "f32",  # left to itself it computes in bfloat16 where the CPU can
            "ENABLE_CPU_PINNING": False,  # pinned threads of two processes meet on the same cores
        }
        if request.threads is not None:
            properties["INFERENCE_NUM_THREADS"] = request.threads
        with _errors_named(f"OpenVINO cannot load {path}"):
            self._model = openvino.Core().compile_model(str(path), "CPU", properties)
        self._request = self._model.create_infer_request()
        self._in_flight: int = self._model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._device = f"OpenVINO {', '.join(self._model.get_property('EXECUTION_DEVICES'))}"
        self._cannot_run = f"OpenVINO could not run {self._info.model}"
        self.settings = {
            "openvino": str(openvino.__version__).split("-", maxsplit=1)[0],
            "hint": self._hint,
            "precision": self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
            "threads": str(self._model.get_property("INFERENCE_NUM_THREADS")),
            "streams": str(self._model.get_property("NUM_STREAMS")),
        }
        if self._hint == "throughput":
            self.settings[TIMED] = f"{self._in_flight} images in flight, its time divided by {self._in_flight}"

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        check_batch(batch, self._info)
        with _errors_named(self._cannot_run):
            result: Pixels = self._request.infer([batch])[self._model.output(0)].copy()
        return result

    def time(self, upscale: Upscale, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time single images, or with the throughput hint as many in flight as OpenVINO asks for."""
        if self._hint == "latency":
            return time_runs(lambda: upscale(image), budget)
        queue = self._openvino.AsyncInferQueue(self._model, self._in_flight)
        results: dict[int, Pixels] = {}
        queue.set_callback(lambda request, index: results.update({index: request.get_output_tensor(0).data.copy()}))
        batch = image[None].astype(np.dtype(self._info.io_dtype))

        def run_many() -> None:
            for index in range(self._in_flight):
                queue.start_async([batch], index)
            queue.wait_all()

        with _errors_named(self._cannot_run):
            run_many()  # not timed: a new queue allocates
            timed = time_runs(run_many, budget)
        return Round(timed.start_s, timed.end_s, tuple(sample / self._in_flight for sample in timed.samples_ms))

    def close(self) -> None:
        """Drop what was compiled, which frees its memory."""
        self._request = self._model = None


@contextmanager
def _errors_named(problem: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # its exceptions have no common public base
        raise ArtefactError(f"{problem}: {str(error).strip().splitlines()[0]}.") from error
