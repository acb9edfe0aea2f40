"""Check one library on this machine: ``python -m drc_deploy.bench.machine.probes LIBRARY``, in its own process.

Native libraries meet broken drivers here, and some of them end the process when they do: the caller reads that as an
answer too. A TensorRT runtime is never made without a driver.
"""

import ctypes
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drc_deploy.errors import MissingDependencyError

IDENTITY_ONNX = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)
"""A network that gives back one float32: enough to see which provider really runs."""

INSTALL_DRIVER = "install the NVIDIA driver on a machine with an NVIDIA GPU"
INSTALL_TELEMETRY = "for an NVIDIA GPU, install its driver; for a CPU, run as root, and not in a virtual machine"
INSTALL_TRT = "pip install 'drc-deploy[trt]' (on a Jetson: the TensorRT of its JetPack)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that this machine can or cannot do."""

    name: str
    usable: bool
    detail: str
    """Version or device; why not, when it cannot."""
    install: str
    """What to do to make it usable; empty when it is."""


def probe_driver() -> list[Finding]:
    """Ask the NVIDIA driver for its version and the first GPU."""
    problem, detail = _driver_state()
    install = INSTALL_DRIVER if problem else ""
    return [Finding("NVIDIA driver", not problem, problem or detail, install)]


def probe_torch() -> list[Finding]:
    """Ask torch for the CPU and for CUDA."""
    try:
        import torch
    except (ImportError, OSError) as error:
        install = "pip install 'drc-deploy[train]'"
        return [_missing(f"torch on {device}", error, install) for device in ("CPU", "CUDA")]
    cpu = Finding("torch on CPU", True, f"torch {torch.__version__}", "")
    if torch.cuda.is_available():
        return [cpu, Finding("torch on CUDA", True, torch.cuda.get_device_name(0), "")]
    if torch.version.cuda is None:
        return [
            cpu,
            Finding("torch on CUDA", False, "this torch is built without CUDA", "install a CUDA build of torch"),
        ]
    return [cpu, Finding("torch on CUDA", False, "torch finds no usable GPU", INSTALL_DRIVER)]


def probe_onnxruntime() -> list[Finding]:
    """Run a network on each provider: the list that the package gives is only what it was compiled with."""
    names = {
        "CPU": "CPUExecutionProvider",
        "OpenVINO": "OpenVINOExecutionProvider",
        "CUDA": "CUDAExecutionProvider",
        "TensorRT": "TensorrtExecutionProvider",
    }
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        return [_missing(f"ONNX Runtime on {short}", error, _install_ort(short)) for short in names]
    return [_probe_provider(onnxruntime, short, provider) for short, provider in names.items()]


def _probe_provider(ort: Any, short: str, provider: str) -> Finding:
    name = f"ONNX Runtime on {short}"
    if provider not in ort.get_available_providers():
        return Finding(
            name, False, f"onnxruntime {ort.__version__} is built without this provider", _install_ort(short)
        )
    on_gpu = short in ("CUDA", "TensorRT")
    problem = _driver_state()[0] if on_gpu else ""
    if problem:
        return Finding(name, False, problem, INSTALL_DRIVER)
    if on_gpu and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = ort.SessionOptions()
    if short == "OpenVINO":  # it is listed as used even where the CPU provider computes everything
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        used = ort.InferenceSession(IDENTITY_ONNX, options, providers=[provider]).get_providers()[0]
    except Exception as error:  # its exceptions have no common public base
        return _missing(name, error, _install_ort(short))
    if used != provider:
        return Finding(
            name, False, f"ONNX Runtime falls back to {used}", "install the CUDA libraries that it was built for"
        )
    return Finding(name, True, f"onnxruntime {ort.__version__}", "")


def _install_ort(short: str) -> str:
    if short == "CPU":
        return "pip install 'drc-deploy[ort]'"
    extra = "ort-openvino" if short == "OpenVINO" else "ort-gpu"
    return f"pip install 'drc-deploy[{extra}]' after `pip uninstall onnxruntime`: only one of them may be installed"


def probe_tensorrt() -> list[Finding]:
    """TensorRT builds and runs on the GPU that is there, and needs pycuda to run here."""
    name = "TensorRT"
    library = _import("tensorrt")
    if isinstance(library, Exception):
        return [_missing(f"{name}: {task}", library, INSTALL_TRT) for task in ("build plans", "run plans")]
    problem = _driver_state()[0]
    if problem:
        return [
            Finding(f"{name}: {task}", False, f"tensorrt {library.__version__}, but {problem}", INSTALL_DRIVER)
            for task in ("build plans", "run plans")
        ]
    return [_try_builder(name, library), _can_run(name, library)]


def probe_tensorrt_rtx() -> list[Finding]:
    """TensorRT-RTX builds without a GPU."""
    name = "TensorRT-RTX"
    library = _import("tensorrt_rtx")
    if isinstance(library, Exception):
        install = "pip install 'drc-deploy[rtx]'"
        return [_missing(f"{name}: {task}", library, install) for task in ("build plans", "run plans")]
    return [_try_builder(name, library), _can_run(name, library)]


def _try_builder(name: str, library: Any) -> Finding:
    try:
        library.Builder(library.Logger(library.Logger.ERROR))
    except Exception as error:  # pybind11 raises TypeError where the library gives no builder
        return _missing(f"{name}: build plans", error, INSTALL_DRIVER)
    return Finding(f"{name}: build plans", True, f"{library.__name__} {library.__version__}", "")


def _can_run(name: str, library: Any) -> Finding:
    """Return whether plans can be run, which this program does through pycuda."""
    pycuda = probe_pycuda()[0]
    detail = f"{library.__name__} {library.__version__} on {pycuda.detail}" if pycuda.usable else pycuda.detail
    return Finding(f"{name}: run plans", pycuda.usable, detail, pycuda.install)


def probe_pycuda() -> list[Finding]:
    """Open the GPU as the runtime does."""
    from drc_deploy.runtime.backends.trt.gpu_memory import CudaDevice

    problem = _driver_state()[0]
    try:
        device = CudaDevice()
    except MissingDependencyError as error:
        install = INSTALL_DRIVER if problem else "pip install pycuda (it is compiled: nvcc must be on the PATH)"
        return [Finding("pycuda", False, problem or error.message, install)]
    return [Finding("pycuda", True, f"{device.name}, compute capability {device.compute_capability}", "")]


def probe_onnx() -> list[Finding]:
    """Ask for what ``drc-deploy export`` needs."""
    versions = []
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        module = _import(package)
        if isinstance(module, Exception):
            return [_missing("export to ONNX", module, "pip install 'drc-deploy[export]'")]
        versions.append(f"{package} {getattr(module, '__version__', '')}".strip())
    return [Finding("export to ONNX", True, ", ".join(versions), "")]


def probe_telemetry() -> list[Finding]:
    """Look for all sensors that a benchmark can sample during its run."""
    from drc_deploy.bench.machine.telemetry.instruments import find_instruments
    from drc_deploy.bench.machine.telemetry.summary import WORDS, missing_kinds, sensors_of

    instruments = find_instruments()
    instruments.close()
    missing = missing_kinds(instruments.sensors, instruments.missing)
    return [
        Finding(f"telemetry: {word}", False, missing[word], INSTALL_TELEMETRY)
        if word in missing
        else Finding(f"telemetry: {word}", True, sensors_of(instruments.sensors, kind), "")
        for kind, word in WORDS.items()
    ]


PROBES: dict[str, Callable[[], list[Finding]]] = {
    "driver": probe_driver,
    "torch": probe_torch,
    "onnx": probe_onnx,
    "onnxruntime": probe_onnxruntime,
    "pycuda": probe_pycuda,
    "tensorrt": probe_tensorrt,
    "tensorrt_rtx": probe_tensorrt_rtx,
    "telemetry": probe_telemetry,
}


def _driver_state() -> tuple[str, str]:
    """Return what is wrong with the NVIDIA driver (empty when nothing is), and its version and first GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver found (libcuda.so.1)", ""
    status = cuda.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit gives {status})", ""
    version, count, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        return "the NVIDIA driver finds no GPU", ""
    cuda.cuDeviceGetName(name, 256, 0)
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return "", f"{name.value.decode(errors='replace')}, driver for CUDA {cuda_version}"


def _import(package: str) -> Any:
    """Import a package, or give the error: a broken installation raises more than ImportError."""
    try:
        return importlib.import_module(package)
    except Exception as error:  # the import runs the package's own code
        return error


def _missing(name: str, error: Exception, install: str) -> Finding:
    reason = str(error).strip().splitlines()
    return Finding(name, False, reason[0] if reason else type(error).__name__, install)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in PROBES[sys.argv[1]]()]) + "\n")
