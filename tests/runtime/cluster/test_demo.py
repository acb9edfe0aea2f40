"""The demo of docs/cluster.md, as it is written there."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from drc_deploy.locate import sample_images
from tests.imports import ROOT
from tests.patience import PATIENCE_S
from tests.runtime.networks import write_nearest

pytest.importorskip("ray")
pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def test_two_nodes_make_all_images_and_equal_ones_though_one_is_killed(tmp_path: Path) -> None:
    write_nearest(tmp_path / "n.onnx")
    (tmp_path / "photos").mkdir()
    with Image.open(sample_images()[0]) as photo:
        for number in range(16):
            photo.resize((96 + number, 72)).save(tmp_path / "photos" / f"{number:02}.png")
    section = (ROOT / "docs/cluster.md").read_text().partition("## Two machines on one")[2]
    (demo,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    with socket.create_server(("", 0)) as free, tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as place:
        port, path = str(free.getsockname()[1]), f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "RAY_TMPDIR": place, "HOME": place, "RAY_USAGE_STATS_ENABLED": "0"}
        free.close()
        pipe = subprocess.PIPE
        again = "drc-deploy upscale photos --engine n.onnx -o no --ray localhost:6399 2>> refused || true"
        without_token = f"export RAY_AUTH_TOKEN=\n{again}\nexport RAY_AUTH_MODE=\n{again}\nkill $first"
        words = ["bash", "-ec", demo.replace("kill $first", without_token).replace("6399", port)]
        with subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as running:
            try:
                _, err = running.communicate(timeout=PATIENCE_S)
            finally:
                with suppress(ProcessLookupError):  # all have ended
                    os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, err
    assert "Killed" in err
    assert (tmp_path / "refused").read_text().count(f"Error: the Ray at localhost:{port} wants its token.") == 2
    assert len(list((tmp_path / "large").glob("*.png"))) == 16
