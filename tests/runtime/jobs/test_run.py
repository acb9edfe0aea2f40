import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.errors import ArtefactError
from drc_deploy.images.png_stream import PngStream
from drc_deploy.images.reading import decoding_bytes, read_image
from drc_deploy.runtime.backends.contract import Pixels
from drc_deploy.runtime.jobs import run as job_runner
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.run import Outcome, RunOptions, run_jobs
from drc_deploy.runtime.memory.host import MemoryBudget
from drc_deploy.runtime.networks import Networks
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.fake_backend import FakeBackend, fake_info
from tests.runtime.networks import nearest


def image(number: int, height: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (height, 7, 3), np.uint8)


@pytest.fixture
def jobs(tmp_path: Path) -> list[UpscaleJob]:
    """Five images and where they go."""
    made = [UpscaleJob(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png") for number in range(5)]
    for number, job in enumerate(made):
        Image.fromarray(image(number)).save(str(job.source))
    return made


class Watched(FakeBackend):
    """Calls ``before`` with the number of the run."""

    def __init__(self, before: Callable[[int], None]) -> None:
        super().__init__(fake_info())
        self._before = before

    def run(self, batch: Pixels) -> Pixels:
        self._before(len(self.calls))
        return super().run(batch)


def run(jobs: list[UpscaleJob], backend: FakeBackend | None = None, **options: Any) -> Outcome:
    upscaler = Upscaler(backend or FakeBackend(fake_info()), tile=8, overlap=0)
    return run_jobs(upscaler, jobs, RunOptions(**options))


def written(job: UpscaleJob) -> NDArray[Any]:
    assert job.target is not None
    return read_image(job.target).pixels


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_result_is_that_of_its_own_image_and_reported_in_order(jobs: list[UpscaleJob]) -> None:
    outcome = run(jobs)
    assert [item.input for item in outcome.finished] == [str(job.source) for job in jobs]
    for number, job in enumerate(jobs):
        assert np.array_equal(written(job), nearest(image(number), 2))


@pytest.mark.parametrize("limit", [10**6, 0])
def test_large_images_wait_for_their_turn_and_nothing_else_changes(
    jobs: list[UpscaleJob], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(job_runner, "READ_AHEAD_BYTES", limit)
    read_early = threading.Event()

    def read(path: Path, **how: Any) -> Any:
        if path == jobs[1].source:
            read_early.set()
        return read_image(path, **how)

    monkeypatch.setattr("drc_deploy.runtime.jobs.run.read_image", read)
    seen: list[bool] = []
    outcome = run(jobs, Watched(lambda call: seen.append(read_early.wait(5 if limit else 0.1)) if not call else None))
    assert seen == [limit > 0]
    assert len(outcome.finished) == 5


def test_errors_stay_with_their_image_wherever_they_happen(jobs: list[UpscaleJob], tmp_path: Path) -> None:
    unreadable, unwritable, uncomputable = jobs[0], jobs[2], jobs[3]
    Path(str(unreadable.source)).write_bytes(b"no image")
    (tmp_path / "file").touch()
    jobs[2] = UpscaleJob(unwritable.source, tmp_path / "file" / "x.png")

    def fail(batch: Pixels) -> None:
        if np.array_equal(batch[0, :5, :7], image(3)[:5]):
            raise ArtefactError("the network failed.", "Try another.")

    class Failing(FakeBackend):
        def run(self, batch: Pixels) -> Pixels:
            fail(batch)
            return super().run(batch)

    outcome = run(jobs, Failing(fake_info()))
    assert [item.input for item in outcome.failed] == [
        str(job.source) for job in (unreadable, unwritable, uncomputable)
    ]
    assert "not an image" in outcome.failed[0].error
    assert "cannot write" in outcome.failed[1].error
    assert outcome.failed[2].error == "the network failed."
    assert [item.input for item in outcome.finished] == [str(jobs[1].source), str(jobs[4].source)]
    assert files_in(tmp_path / "out") == ["1.png", "4.png"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_appears_meanwhile_is_written_over_only_on_request(jobs: list[UpscaleJob], overwrite: bool) -> None:
    target = Path(str(jobs[1].target))

    def appear(call: int) -> None:
        if call == 2:  # the first tile of the second image
            target.write_bytes(b"mine")

    target.parent.mkdir()
    outcome = run(jobs, Watched(appear), overwrite=overwrite)
    assert [item.input for item in outcome.failed] == ([] if overwrite else [str(jobs[1].source)])
    assert len(outcome.finished) == 5 - len(outcome.failed)
    if overwrite:
        assert np.array_equal(written(jobs[1]), nearest(image(1), 2))
    else:
        assert "exists already" in outcome.failed[0].error
        assert target.read_bytes() == b"mine"
    assert files_in(target.parent) == [f"{number}.png" for number in range(5)]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_image_that_changes_meanwhile_fails_and_is_not_finished(jobs: list[UpscaleJob], suffix: str) -> None:
    jobs[1] = UpscaleJob(jobs[1].source, Path(str(jobs[1].target)).with_suffix(suffix))

    def change(call: int) -> None:
        if call == 3:  # the second of two rows of tiles of the second image
            Image.fromarray(image(7)).save(str(jobs[1].source))

    outcome = run(jobs, Watched(change), skip_existing=True)
    assert [(item.input, item.error) for item in outcome.failed] == [
        (str(jobs[1].source), f"{jobs[1].source} changed while it was upscaled.")
    ]
    assert len(outcome.finished) == 4
    assert files_in(Path(str(jobs[0].target)).parent) == ["0.png", "2.png", "3.png", "4.png"]
    again = run(jobs, skip_existing=True)
    assert (len(again.skipped), len(again.finished)) == (4, 1)
    assert np.array_equal(written(jobs[1]), nearest(image(7), 2))


def test_a_change_after_the_last_strip_counts_too(jobs: list[UpscaleJob], monkeypatch: pytest.MonkeyPatch) -> None:
    def change(job: UpscaleJob) -> None:
        Image.fromarray(image(7)).save(str(job.source))

    class Slow(PngStream):
        def finish(self) -> None:
            change(jobs[0])
            super().finish()

    monkeypatch.setattr("drc_deploy.images.writing.PngStream", Slow)
    assert "changed while" in run(jobs[:1], skip_existing=True).failed[0].error


def test_an_image_that_is_removed_meanwhile_keeps_its_result(jobs: list[UpscaleJob]) -> None:
    outcome = run(jobs[:1], Watched(lambda call: Path(str(jobs[0].source)).unlink() if not call else None))
    assert len(outcome.finished) == 1
    assert np.array_equal(written(jobs[0]), nearest(image(0), 2))


def test_a_link_to_nowhere_is_in_the_way_before_anything_is_computed(jobs: list[UpscaleJob]) -> None:
    target = Path(str(jobs[0].target))
    target.parent.mkdir()
    target.symlink_to("nowhere")
    backend = FakeBackend(fake_info())
    assert "exists already" in run(jobs[:1], backend).failed[0].error
    assert backend.calls == []
    assert not run(jobs[:1], overwrite=True).failed
    assert np.array_equal(written(jobs[0]), nearest(image(0), 2))


def test_a_disk_that_fills_in_the_middle_stops_that_image_only(
    jobs: list[UpscaleJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def open_on_a_full_disk(path: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        full = mode == "wb" and path.name.startswith(".1.")
        return real_open(Path("/dev/full") if full else path, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    outcome = run(jobs)
    assert [item.input for item in outcome.failed] == [str(jobs[1].source)]
    assert "No space left on device" in outcome.failed[0].error
    assert files_in(tmp_path / "out") == ["0.png", "2.png", "3.png", "4.png"]


def test_a_read_only_folder_is_reported_before_anything_is_computed(
    jobs: list[UpscaleJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write into every folder
    backend = FakeBackend(fake_info())
    outcome = run(jobs, backend)
    assert len(outcome.failed) == 5
    assert "Read-only file system" in outcome.failed[0].error
    assert backend.calls == []


def test_an_interruption_leaves_whole_files_only_and_no_thread(jobs: list[UpscaleJob], tmp_path: Path) -> None:
    def interrupt(call: int) -> None:
        if call == 5:  # the second of two rows of tiles of the third image
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(jobs, Watched(interrupt))
    assert threading.active_count() == threads
    assert files_in(tmp_path / "out") == ["0.png", "1.png"]
    for number in range(2):
        assert np.array_equal(written(jobs[number]), nearest(image(number), 2))


def test_what_is_finished_is_skipped_and_what_changed_since_is_done_again(jobs: list[UpscaleJob]) -> None:
    run(jobs[:3])
    changed = Path(str(jobs[1].source))
    Image.fromarray(image(99)).save(changed)
    later = time.time() + 10
    os.utime(changed, (later, later))
    outcome = run(jobs, skip_existing=True)
    assert [item.input for item in outcome.skipped] == [str(jobs[0].source), str(jobs[2].source)]
    assert [item.input for item in outcome.finished] == [str(jobs[number].source) for number in (1, 3, 4)]
    assert np.array_equal(written(jobs[1]), nearest(image(99), 2))


def test_skipping_does_not_hide_that_an_image_has_gone(jobs: list[UpscaleJob]) -> None:
    run(jobs[:1])
    Path(str(jobs[0].source)).unlink()
    assert "does not exist" in run(jobs[:1], skip_existing=True).failed[0].error


def test_metadata_go_with_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera Works"
    Image.fromarray(image(0)).save(tmp_path / "in.jpg", exif=exif, dpi=(300, 200))
    run([UpscaleJob(tmp_path / "in.jpg", tmp_path / "out.jpg")])
    with Image.open(tmp_path / "out.jpg") as result:
        assert result.size == (18, 14)
        assert result.info["dpi"] == (200, 300)  # turned as the image was
        assert (result.getexif()[0x0112], result.getexif()[0x010F]) == (1, "Camera Works")


def test_the_first_frame_of_an_animation_is_upscaled_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.fromarray(image(number)) for number in (1, 2)]
    frames[0].save(tmp_path / "in.webp", save_all=True, append_images=frames[1:], lossless=True)
    job = UpscaleJob(tmp_path / "in.webp", tmp_path / "out.png")
    run([job])
    assert np.array_equal(written(job), nearest(image(1), 2))
    assert "2 frames: only the first is used" in caplog.text


class OnCpu(FakeBackend):
    """Says that it computes where memory is planned."""

    @property
    def device(self) -> str:
        return "ONNX Runtime CPUExecutionProvider"


def test_an_image_too_large_for_the_limit_is_reported_and_the_others_go_on(jobs: list[UpscaleJob]) -> None:
    large = jobs[1].source
    assert large is not None
    Image.fromarray(np.zeros((2000, 2000, 3), np.uint8)).save(large)  # 54 MiB to read, and 183 MiB of result
    backend = OnCpu(replace(fake_info(), cpu_bytes_per_pixel=10))
    upscaler = Upscaler(backend, tile=8, overlap=0, budget=MemoryBudget(120 << 20, 100 << 20))
    outcome = run_jobs(upscaler, jobs, RunOptions())
    assert [failed.input for failed in outcome.failed] == [str(large)]
    assert "reading" in outcome.failed[0].error
    assert "more than the 120 MiB allowed" in outcome.failed[0].error
    assert len(outcome.finished) == 4
    assert jobs[1].target is not None
    assert not jobs[1].target.exists()


@pytest.mark.parametrize("limit_mib", [None, 120, 4000])
def test_reading_the_next_image_is_planned_for_where_it_is_read_meanwhile(
    limit_mib: int | None, jobs: list[UpscaleJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = jobs[1].source
    assert source is not None
    Image.fromarray(np.zeros((1000, 1000, 3), np.uint8)).save(source)  # 13 MiB to read
    also_held: list[int] = []
    given_back: list[int] = []

    def fit(self: Networks, *arguments: Any, **options: Any) -> Any:
        also_held.append(options["also_held"])
        return original(self, *arguments, **options)

    original = Networks.fit
    monkeypatch.setattr(Networks, "fit", fit)
    monkeypatch.setattr(Networks, "give_back", lambda _: given_back.append(len(also_held)))
    backend = OnCpu(replace(fake_info(), cpu_bytes_per_pixel=10))
    budget = limit_mib and MemoryBudget(limit_mib << 20, 50 << 20)
    outcome = run_jobs(Upscaler(backend, budget=budget or None), jobs[:2], RunOptions())
    assert len(outcome.finished) == 2
    early = limit_mib != 120  # of which a sixteenth is less
    assert also_held == [decoding_bytes(source) if early else 0, 0]  # one plan an image
    assert given_back == ([] if early else [1])
    assert decoding_bytes(source) > 1000 * 1000 * 3
