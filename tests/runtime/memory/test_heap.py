"""The allocator returns freed activations to the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
if sys.argv[1] == "tuned":
    from drc_deploy.runtime.memory.heap import tune_allocator
    tune_allocator()
import torch
torch.ones(7_000_000)  # glibc by itself raises its border to the size of what is freed
held = [(torch.ones(2_500_000), torch.ones(100)) for _ in range(40)]
small = [pair[1] for pair in held]  # between two large ones each
del held
print(int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_activations_are_returned_to_the_system() -> None:
    pytest.importorskip("torch")
    held = {
        name: int(subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, check=True).stdout)
        for name in ("tuned", "as it is")
    }
    assert held["tuned"] < held["as it is"] - 100, held
