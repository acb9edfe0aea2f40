import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["campaign", "page", "console", "doctor", "artefacts", "evaluation", "worker"])
def test_bench_imports_without_torch_and_onnx(module: str) -> None:
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None, onnxruntime=None, tensorrt=None)\n"
        f"import drc_deploy.bench.{module}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
