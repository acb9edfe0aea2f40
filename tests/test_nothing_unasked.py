"""Commands that compute talk to no other machine, and write nowhere but to the work folder and to TMPDIR."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from tests.imports import ROOT

TRACER = shutil.which("strace")
COMMAND_LINE = ("-m", "drc_deploy")
WRITES = re.compile(
    r'(?:open(?:at)?\(.*?"([^"]+)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)|(?:mkdir|creat)(?:at)?\(.*?"([^"]+)")'
)
DEVICES = ("/dev/", "/proc/self/")
FONTS = (".cache/matplotlib", ".config/matplotlib")
"""matplotlib lists the fonts of a machine once, in the cache of its user."""
QUICK = ("--batch", "2", "--patch", "8")
BENCH = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")
API = "from drc_deploy.runtime.upscaler import Upscaler; Upscaler.open('drc_runs/drn_xs_r30.onnx').close()"


def _traced(folder: Path, *arguments: str, **environment: str) -> list[str]:
    """Run Python with an empty home and return its network calls and the calls that open files."""
    trace, kept = folder / "trace", ("PATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    places = {"HOME": folder / "home", "TMPDIR": folder / "tmp"}
    for place in (folder / "work", folder / "tmp", *(folder / "home" / font.split("/")[0] for font in FONTS)):
        place.mkdir(parents=True, exist_ok=True)
    watch = [str(TRACER), "-f", "-s", "200", "-e", "trace=network,openat,mkdir,mkdirat", "-o", str(trace)]
    run = subprocess.run(
        [*watch, sys.executable, *arguments],
        cwd=folder / "work",
        env={name: os.environ[name] for name in kept if name in os.environ}
        | {name: str(place) for name, place in places.items()}
        | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if not trace.exists() or "ptrace" in run.stderr:
        pytest.skip(f"strace may not watch processes here: {run.stderr[-200:]}")
    assert run.returncode == 0, run.stderr
    return trace.read_text(errors="replace").splitlines()


def _unasked(calls: list[str], folder: Path) -> list[str]:
    """Return the calls that reach for other machines, and those that write outside the folder."""
    allowed = (*DEVICES, *(f"{folder}/{place}" for place in ("work", "tmp", *(f"home/{font}" for font in FONTS))))
    found = [call for call in calls if "AF_INET" in call]
    for call in calls:
        if (match := WRITES.search(call)) and " = -1 " not in call:
            path = match[1] or match[2]
            if path.startswith("/") and not path.startswith(allowed):
                found.append(call)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not TRACER, reason="strace is not installed")
def test_no_command_looks_up_a_server_or_writes_where_nobody_asked(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    torch.save(build_network(ModelSpec("drn_xs", 4)).state_dict(), tmp_path / "work/net.pt")
    Image.new("RGB", (24, 16), (200, 100, 50)).save(tmp_path / "work/photo.png")
    commands = [
        ("import", "net.pt", "--model", "drn_xs", "-o", "imported.safetensors"),
        ("export", "drn_xs_r30"),
        ("verify", "drc_runs/drn_xs_r30.onnx", "--checkpoint", "drn_xs_r30"),
        ("upscale", "photo.png", "-o", "onnx.png", "--engine", "drc_runs/drn_xs_r30.onnx"),
        ("upscale", "photo.png", "-o", "torch.png", "--engine", "drn_xs_r30"),
        ("bench", "drc_runs/drn_xs_r30.onnx", *BENCH),
        ("search", "drn_xs", "--steps", "1", *QUICK),
        ("prune", "drn_xs", "--widths", "drc_runs/drn_xs_r30.widths.json", "--batches", "1", *QUICK),
    ]
    for command in commands:
        assert not _unasked(_traced(tmp_path, *COMMAND_LINE, *command), tmp_path), command
    assert not _unasked(_traced(tmp_path, "-c", API), tmp_path)
    # The watch sees what a user has asked for, so that it would have seen it above.
    assert _unasked(_traced(tmp_path, "-c", f"{API}; import time; time.sleep(2)", ORT_DISABLE_TELEMETRY="0"), tmp_path)
