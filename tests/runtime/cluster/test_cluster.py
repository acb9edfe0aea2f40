"""Two machines of a Ray cluster, both on this one: results, and what is left when processes are killed.

Results are BMP files, whose bytes depend on nothing but their pixels.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drc_deploy.files import sha256_of
from drc_deploy.runtime.cluster.run import ClusterRun
from drc_deploy.runtime.cluster.worker import Recipe
from drc_deploy.runtime.cluster.workers import MOST_ENDS, Workers, workers_at
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import RunOptions
from drc_deploy.runtime.video.options import VideoOptions
from drc_deploy.runtime.video.writing import SEGMENT_FRAMES
from tests.patience import PATIENCE_S, ended
from tests.runtime.cluster.processes import when, worker_at
from tests.runtime.networks import write_nearest

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

COUNT = 12
Alone = tuple[dict[str, Any], dict[str, bytes]]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine and a folder of images, one of them damaged."""
    folder = tmp_path_factory.mktemp("work")
    write_nearest(folder / "n.onnx")
    (folder / "in").mkdir()
    for number in range(COUNT):
        image = np.random.default_rng(number).integers(0, 256, (400 + number, 500, 3), np.uint8)
        Image.fromarray(image).save(folder / "in" / f"{number:02}.png")
    (folder / "in/bad.png").write_bytes(b"no image")
    return folder


@pytest.fixture(autouse=True)
def _no_results(work: Path) -> None:
    shutil.rmtree(work / "out", ignore_errors=True)


@pytest.fixture(scope="module")
def alone(work: Path) -> Alone:
    """What one process makes."""
    return finish(start(work, "-o", "out")), images(work / "out")


def start(work: Path, *arguments: object) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "drc_deploy",
        "upscale",
        "in",
        "--engine",
        "n.onnx",
        "--threads",
        "1",
        "--json",
        "--format",
        "bmp",
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *map(str, arguments)], cwd=work, stdout=pipe, stderr=pipe, text=True)


def finish(running: "subprocess.Popen[str]") -> dict[str, Any]:
    with ended(running):
        out, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, err
    assert "in/bad.png is not an image" in err
    assert "Traceback" not in err
    result: dict[str, Any] = json.loads(out)
    for item in (result, *result["files"]):
        del item["seconds"]
    return result


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.bmp"))}


def test_two_machines_make_what_one_process_makes_though_one_of_them_leaves(
    cluster: Any, work: Path, alone: Alone
) -> None:
    summary, made = alone
    other = cluster.add_node(num_cpus=1)
    leaving = when(lambda: len(images(work / "out")) > 1, lambda: cluster.remove_node(other, allow_graceful=False))
    on_two = finish(start(work, "-o", "out", "--ray", cluster.address))
    leaving.join()
    assert on_two == summary
    assert images(work / "out") == made
    assert len(made) == COUNT


def test_an_image_that_kills_its_worker_three_times_is_named_and_the_rest_is_done(
    cluster: Any, work: Path, alone: Alone
) -> None:
    made = dict(alone[1])
    running = start(work, "-o", "out", "--ray", cluster.address)
    killed: list[int] = []
    end = time.monotonic() + PATIENCE_S
    while running.poll() is None and time.monotonic() < end:
        if (process := worker_at(f"{work}/out/.05.")) and process not in killed:
            os.kill(process, signal.SIGKILL)
            killed.append(process)
        time.sleep(0.001)
    summary = finish(running)
    assert len(killed) == 4  # once among others, which count for nothing, and three times alone
    assert [item["input"] for item in summary["failed"]] == ["in/05.png", "in/bad.png"]
    assert "in/05.png has ended its worker 3 times." in summary["failed"][0]["error"]
    del made["05.bmp"]
    assert images(work / "out") == made


def test_a_file_counts_for_nothing_where_its_worker_had_ended_before(
    cluster: Any, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Workers.give
    killed: list[int] = []

    def give_to_the_dead(workers: Workers, *arguments: Any, **named: Any) -> None:
        if len(killed) < MOST_ENDS:
            worker = worker_at(str(work))
            assert worker
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)
        give(workers, *arguments, **named)

    monkeypatch.setattr(Workers, "give", give_to_the_dead)
    recipe = Recipe(work / "n.onnx", sha256_of(work / "n.onnx"), {}, None, None, work)
    job = UpscaleJob(work / "in/00.png", work / "out.bmp")
    with workers_at(cluster.address, recipe, 1) as workers:
        outcome = ClusterRun(workers).run([job], RunOptions(), {}, VideoOptions())
    assert len(set(killed)) == MOST_ENDS
    assert outcome.failed == []
    assert (work / "out.bmp").stat().st_size > 400 * 500 * 16 * 3


def film(path: Path) -> None:
    """Write twelve segments and a half, without sound."""
    import av

    texture = np.random.default_rng(0).integers(0, 256, (120, 160 + SEGMENT_FRAMES * 13, 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for begin in range(SEGMENT_FRAMES * 12 + 20):
            shown = np.ascontiguousarray(texture[:, begin : begin + 160])
            container.mux(video.encode(av.VideoFrame.from_ndarray(shown, "rgb24")))
        container.mux(video.encode())


def upscale_film(work: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    """Return what the command says of its result, and on standard error, where no step of its progress is left out."""
    code = "import sys; from drc_deploy import progress; progress.PLAIN_INTERVAL_S = 0;"
    code += "from drc_deploy.cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "upscale", "film.mp4", "--engine", "n.onnx", "--threads", "1"]
    words = [*command, "--json", *map(str, arguments)]
    done = subprocess.run(words, cwd=work, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    del result["seconds"], result["files"][0]["seconds"], result["files"][0]["output"]
    return result, done.stderr


def test_one_video_goes_to_two_workers_and_only_the_segments_of_one_that_is_killed_go_out_again(
    cluster: Any, work: Path
) -> None:
    pytest.importorskip("av")
    film(work / "film.mp4")
    alone, _ = upscale_film(work, "-o", "alone.mp4")
    segments = work / "shared.segments"
    made: set[tuple[str, int]] = set()
    killed: set[int] = set()

    def watch() -> bool:
        """Note segments, each with its time; kill a worker when two have finished some."""
        with suppress(OSError):  # of what is gone when it is looked at
            made.update((path.name, path.stat().st_mtime_ns) for path in segments.glob("[0-9]*"))
            under_way = [path for path in segments.glob("SHA256SUMS.*") if path.stat().st_size]
            if not killed and len(under_way) > 1 and (process := worker_at(f"{segments}/.")):
                os.kill(process, signal.SIGKILL)
                killed.add(process)
        return (work / "shared.mp4").exists()

    other = cluster.add_node(num_cpus=1)
    watching = when(watch, lambda: None)
    shared, said = upscale_film(work, "-o", "shared.mp4", "--ray", cluster.address)
    watching.join()
    cluster.remove_node(other, allow_graceful=False)
    assert killed
    assert shared == alone
    assert (work / "shared.mp4").read_bytes() == (work / "alone.mp4").read_bytes()
    times = Counter(name for name, _ in made)
    assert len(times) > 8
    twice = [name for name, count in times.items() if count > 1]
    assert len(twice) <= 2  # which the killed worker had finished and not noted yet
    assert not segments.exists()
    done, total = zip(*(map(int, step) for step in re.findall(r"Upscaling: (\d+)/(\d+)", said)), strict=True)
    assert set(total) == {14}  # the film and its segments
    assert list(done) == sorted(set(done))
    assert len(done) > 2  # the last parts are not begun before the first are done
    assert done[-1] == 14


def test_a_command_that_was_killed_goes_on(cluster: Any, work: Path, alone: Alone) -> None:
    summary, made = alone
    running = start(work, "-o", "out", "--ray", cluster.address)
    when(lambda: len(images(work / "out")) > 1, running.kill).join()
    running.communicate()
    before = images(work / "out")
    assert 1 < len(before) < COUNT
    again = finish(start(work, "-o", "out", "--ray", cluster.address, "--skip-existing"))
    assert images(work / "out") == made
    assert {item["output"] for item in again["skipped"]} >= {f"out/{name}" for name in before}
    assert len(again["skipped"]) + len(again["files"]) == len(summary["files"])


def test_a_ray_that_is_started_here_leaves_nothing(work: Path, alone: Alone) -> None:
    summary, made = alone
    with tempfile.TemporaryDirectory(dir="/tmp") as place, pytest.MonkeyPatch.context() as patch:
        home, temporary = Path(place, "home"), Path(place, "t")
        for folder in (home, temporary):
            folder.mkdir()
        patch.setenv("HOME", str(home))
        patch.setenv("TMPDIR", str(temporary))
        assert finish(start(work, "-o", "out", "--ray")) == summary
        assert [*home.iterdir(), *temporary.iterdir()] == []
    assert images(work / "out") == made


def test_a_ray_of_another_version_is_one_sentence(cluster: Any, work: Path) -> None:
    code = "import sys, ray; ray.__version__ = '1.0'; from drc_deploy.cli.main import main; main(sys.argv[1:])"
    words = ["upscale", "in", "--engine", "n.onnx", "--ray", cluster.address]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=work, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1
    assert f"Error: the Ray at {cluster.address} is of another version." in done.stderr
    assert f"Ray: {ray.__version__}" in done.stderr
    assert "Ray: 1.0" in done.stderr
