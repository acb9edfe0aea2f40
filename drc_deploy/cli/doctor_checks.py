"""What every library can do on this machine, for ``drc-deploy doctor``.

Each library has a process of its own, ``python -m drc_deploy.cli.doctor_checks LIBRARY``. Native libraries meet
broken drivers here, and some of them end the process when they do, which is an answer too. A TensorRT runtime is never
made without a driver.
"""

import ctypes
import dataclasses
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from drc_deploy.errors import MissingDependencyError
from drc_deploy.runtime.memory.host import usable_cores

if TYPE_CHECKING:
    from drc_deploy.bench.machine.telemetry.instruments import Instruments

TIMEOUT_S = 120.0

IDENTITY_ONNX = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)
"""A network that returns its one float32: enough to see which provider really runs."""

INSTALL_DRIVER = "install the NVIDIA driver on a machine with an NVIDIA GPU"
INSTALL_TELEMETRY = "for an NVIDIA GPU, install its driver; for a CPU, run as root, and not in a virtual machine"
INSTALL_ORT = "pip install 'drc-deploy[{}]' after `pip uninstall onnxruntime`: only one of them may be installed"
INSTALL_PYCUDA = "pip install pycuda (it is compiled: nvcc must be on the PATH)"
INSTALL_RTX = "pip install 'drc-deploy[rtx]'"
INSTALL_TORCH = "pip install 'drc-deploy[train]'"
INSTALL_TRT = "pip install 'drc-deploy[trt]' (on a Jetson: the TensorRT of its JetPack)"

Check = Callable[[], str]
"""Returns the version or the device that is usable. Raises MissingDependencyError with what to do, or any error."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that this machine can or cannot do."""

    name: str
    usable: bool
    detail: str
    """Version or device; why not, when it cannot."""
    install: str
    """What to do to make it usable; empty when it is."""


def check_driver() -> str:
    """Ask the NVIDIA driver for its version and the first GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_driver("no NVIDIA driver found (libcuda.so.1)") from error
    status = cuda.cuInit(0)
    if status != 0:
        raise _no_driver(f"the NVIDIA driver does not start (cuInit gives {status})")
    version, count, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    if count.value == 0:
        raise _no_driver("the NVIDIA driver finds no GPU")
    cuda.cuDeviceGetName(name, 256, 0)
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return f"{name.value.decode(errors='replace')}, driver for CUDA {cuda_version}"


def _no_driver(problem: str) -> MissingDependencyError:
    return MissingDependencyError(problem, INSTALL_DRIVER)


def check_torch(device: str) -> str:
    """Ask torch for the CPU or for CUDA."""
    torch = import_module("torch")
    if device == "CPU":
        return f"torch {torch.__version__}"
    if torch.version.cuda is None:
        raise MissingDependencyError("this torch is built without CUDA", "install a CUDA build of torch")
    if not torch.cuda.is_available():
        raise _no_driver("torch finds no usable GPU")
    return str(torch.cuda.get_device_name(0))


def check_export() -> str:
    """Import all that ``drc-deploy export`` needs."""
    return check_packages("torch", "onnx", "onnxscript", "onnxruntime")


def check_packages(*names: str) -> str:
    """Import packages, and return their versions."""
    packages = [import_module(name) for name in names]
    return ", ".join(f"{package.__name__} {getattr(package, '__version__', '')}".strip() for package in packages)


def check_zoo() -> str:
    """Import what reads networks of others."""
    from drc_deploy.models.zoo import import_spandrel

    import_spandrel()
    return f"spandrel {version('spandrel')}"


def check_provider(provider: str, install: str) -> str:
    """Run a network on a provider: the list that the package gives is only what it was compiled with."""
    ort = import_module("onnxruntime")
    if provider not in ort.get_available_providers():
        raise MissingDependencyError(f"onnxruntime {ort.__version__} is built without this provider", install)
    if provider.startswith(("CUDA", "Tensorrt")):
        check_driver()
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
    options = ort.SessionOptions()
    if provider.startswith("OpenVINO"):  # it is listed as used even where the CPU provider computes everything
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    used = ort.InferenceSession(IDENTITY_ONNX, options, providers=[provider]).get_providers()[0]
    if used != provider:
        hint = "install the CUDA libraries that it was built for"
        raise MissingDependencyError(f"ONNX Runtime falls back to {used}", hint)
    return f"onnxruntime {ort.__version__}"


def check_pycuda() -> str:
    """Open the GPU as the runtime does."""
    from drc_deploy.runtime.backends.trt.gpu_memory import CudaDevice

    check_driver()
    try:
        device = CudaDevice()
    except MissingDependencyError as error:
        raise MissingDependencyError(error.message, INSTALL_PYCUDA) from error
    return f"{device.name}, compute capability {device.compute_capability}"


def check_builder(package: str) -> str:
    """Make the builder of TensorRT or TensorRT-RTX."""
    library = _import_tensorrt(package)
    try:
        library.Builder(library.Logger(library.Logger.ERROR))
    except Exception as error:  # pybind11 raises TypeError where the library gives no builder
        raise _no_driver(_first_line(error)) from error
    return f"{package} {library.__version__}"


def check_runner(package: str) -> str:
    """Return whether plans can be run, which this program does through pycuda."""
    library = _import_tensorrt(package)
    return f"{package} {library.__version__} on {check_pycuda()}"


def _import_tensorrt(package: str) -> Any:
    """Import TensorRT, which needs a driver, or TensorRT-RTX, which builds without a GPU."""
    library = import_module(package)
    if package == "tensorrt":
        try:
            check_driver()
        except MissingDependencyError as error:
            raise _no_driver(f"tensorrt {library.__version__}, but {error.message}") from error
    return library


def check_sensors(what: str) -> str:
    """Look for the sensors of ``what`` that a benchmark can sample during its run."""
    from drc_deploy.bench.machine.telemetry.summary import KINDS, missing_kinds

    found = _instruments()
    if why := missing_kinds(found.sensors, found.missing).get(what):
        raise MissingDependencyError(why, INSTALL_TELEMETRY)
    return ", ".join(sensor.name for sensor in found.sensors if sensor.kind.startswith(KINDS[what]))


@functools.cache
def _instruments() -> "Instruments":
    from drc_deploy.bench.machine.telemetry.instruments import find_instruments

    found = find_instruments()
    found.close()
    return found


PROVIDERS = {
    "CPU": ("CPUExecutionProvider", "pip install 'drc-deploy[ort]'"),
    "OpenVINO": ("OpenVINOExecutionProvider", INSTALL_ORT.format("ort-openvino")),
    "CUDA": ("CUDAExecutionProvider", INSTALL_ORT.format("ort-gpu")),
    "TensorRT": ("TensorrtExecutionProvider", INSTALL_ORT.format("ort-gpu")),
}

USES = {
    "videos": ("video", ("av",)),
    "HEIC and JPEG XL": ("formats", ("pillow_heif", "pillow_jxl")),
    "serve": ("serve", ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "uvicorn")),
    "files by URL": ("remote", ("fsspec", "s3fs")),
    "--ray": ("ray", ("ray",)),
}
"""What an extra of this package is for -> its name, and what must be there."""

PROBES: dict[str, dict[str, tuple[Check, str]]] = {
    "driver": {"NVIDIA driver": (check_driver, INSTALL_DRIVER)},
    "torch": {f"torch on {device}": (partial(check_torch, device), INSTALL_TORCH) for device in ("CPU", "CUDA")},
    "onnx": {"export to ONNX": (check_export, "pip install 'drc-deploy[export]'")},
    "onnxruntime": {
        f"ONNX Runtime on {name}": (partial(check_provider, provider, install), install)
        for name, (provider, install) in PROVIDERS.items()
    },
    "pycuda": {"pycuda": (check_pycuda, INSTALL_PYCUDA)},
    "tensorrt": {
        "TensorRT: build plans": (partial(check_builder, "tensorrt"), INSTALL_TRT),
        "TensorRT: run plans": (partial(check_runner, "tensorrt"), INSTALL_TRT),
    },
    "tensorrt_rtx": {
        "TensorRT-RTX: build plans": (partial(check_builder, "tensorrt_rtx"), INSTALL_RTX),
        "TensorRT-RTX: run plans": (partial(check_runner, "tensorrt_rtx"), INSTALL_RTX),
    },
    **{
        use: {use: (partial(check_packages, *packages), f"pip install 'drc-deploy[{extra}]'")}
        for use, (extra, packages) in USES.items()
    },
    "spandrel": {"networks of others": (check_zoo, "pip install 'drc-deploy[zoo]'")},
    "telemetry": {
        f"telemetry: {what}": (partial(check_sensors, what), INSTALL_TELEMETRY)
        for what in ("power", "temperature", "clocks", "throttling")
    },
}
"""Library -> name of each finding -> its check, and how to install the library where it is missing or broken."""


def probe(library: str) -> list[Finding]:
    """Make every check of a library."""
    return [_finding(name, check, install) for name, (check, install) in PROBES[library].items()]


def _finding(name: str, check: Check, install: str) -> Finding:
    try:
        return Finding(name, True, check(), "")
    except MissingDependencyError as error:
        return Finding(name, False, error.message, error.hint)
    except Exception as error:  # a broken installation raises more than ImportError
        return Finding(name, False, _first_line(error), install)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


RunProbe = Callable[[str], "subprocess.CompletedProcess[str]"]
"""Runs the checks of one library; returns the exit code and the output."""


def run_probe(library: str) -> "subprocess.CompletedProcess[str]":
    """Run the checks of one library in a process of its own.

    Raises:
        subprocess.TimeoutExpired: it did not end.
    """
    command = [sys.executable, "-m", "drc_deploy.cli.doctor_checks", library]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def examine(libraries: Iterable[str] = tuple(PROBES), run: RunProbe = run_probe) -> list[Finding]:
    """Probe every library; a crash or a timeout becomes a finding too."""
    with ThreadPoolExecutor(min(usable_cores(), 4)) as pool:
        answers = pool.map(lambda library: _ask(library, run), libraries)
    return [finding for answer in answers for finding in answer]


def _ask(library: str, run: RunProbe) -> list[Finding]:
    try:
        done = run(library)
    except subprocess.TimeoutExpired:
        return [_broken(library, f"did not answer within {TIMEOUT_S:.0f} s")]
    if done.returncode < 0:
        return [_broken(library, f"crashes with {signal.Signals(-done.returncode).name} when it is loaded")]
    try:
        # Libraries print to standard output too; the answer is the last line.
        return [Finding(**finding) for finding in json.loads(done.stdout.strip().splitlines()[-1])]
    except (ValueError, TypeError, IndexError):
        said = done.stderr.strip().splitlines()
        return [_broken(library, f"fails when it is loaded: {said[-1] if said else 'no message'}")]


def _broken(library: str, problem: str) -> Finding:
    return Finding(library, False, problem, f"install {library} again")


def findings_text(findings: Sequence[Finding]) -> str:
    """Return the findings, and below them each thing to do with the names of those that it mends."""
    lines = [f"{'yes' if finding.usable else ' no'}  {finding.name}: {finding.detail}" for finding in findings]
    mended: dict[str, list[str]] = {}
    for finding in findings:
        if finding.install:
            mended.setdefault(finding.install, []).append(finding.name)
    for install, names in mended.items():
        lines += ["", f"For {', '.join(names)}:", f"  {install}"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in probe(sys.argv[1])]) + "\n")
