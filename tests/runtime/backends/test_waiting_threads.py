"""How threads of torch wait: what GNU's OpenMP says of itself."""

import os
import re
import subprocess
import sys

import pytest

from drc_deploy.locate import SHIPPED

NETWORK = str(SHIPPED / "drn_es_r50.safetensors")
OPENED = f"from drc_deploy.runtime.upscaler import Upscaler; Upscaler.open({NETWORK!r}).close()"
TYPED = """
from drc_deploy.cli.main import main
try:
    main(["models"])
except SystemExit:
    pass
"""
PEER = f"""
from pathlib import Path
from drc_deploy.bench.programs.program_backend import ProgramRequest
from drc_deploy.bench.programs.torch_program import TorchProgram
from drc_deploy.runtime.backends.pytorch.waiting_threads import let_waiting_threads_sleep
let_waiting_threads_sleep()
TorchProgram(ProgramRequest(Path({NETWORK!r}), "eager", None, (16, 16)))
"""


def spins(code: str, **variables: str) -> str | None:
    """Return how often a thread looks for work before it sleeps; None: the library's own choice."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP"))}
    environment |= {"OMP_DISPLAY_ENV": "verbose", **variables}
    code = f"{code}\nimport torch"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    said = re.search(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    if said is None:
        pytest.skip("this torch has another OpenMP")
    return said[1]


@pytest.mark.parametrize("code", [OPENED, TYPED])
def test_threads_sleep_after_a_moment(code: str) -> None:
    pytest.importorskip("torch")
    assert spins(code) == "1000"
    assert spins(code, GOMP_SPINCOUNT="7") == "7"


def test_torch_is_measured_as_others_run_it() -> None:
    pytest.importorskip("torch")
    assert spins(PEER) == spins("")
