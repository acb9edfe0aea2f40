"""Commands on a blind network: known kernels, and estimates next to the truth."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drc_deploy.bench.report.report_files import read_report
from drc_deploy.images.reading import read_rgb
from tests.cli.commands import drc
from tests.models.tiny_dcls import save_tiny_dcls
from tests.runtime.networks import nearest, write_blind

SCALE = 2
QUICK = ("--size", "16x24", "--min-runs", "8", "--min-seconds", "0", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A blind network, and a set of two noisy images whose kernels are a point."""
    write_blind(tmp_path / "b.onnx", scale=SCALE)
    for name in ("HR", "LRx2", "kernels_x2"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for number, name in enumerate(("a", "b")):
        lr = np.random.default_rng(number).integers(0, 200, (24, 30, 3), np.uint8)
        for kind, image in (("HR", nearest(lr, SCALE)), ("LRx2", lr)):
            assert cv2.imwrite(str(tmp_path / "set" / kind / f"{name}.png"), image)
        save_kernel(tmp_path / f"set/kernels_x2/{name}.npz")
    return tmp_path


def save_kernel(path: Path, *, scale: int = SCALE, factor: float = 1, side: int = 3) -> None:
    kernel = np.zeros((side, side))
    kernel[side // 2, side // 2] = factor
    np.savez(path, kernel=kernel, scale=scale, reduction="bicubic")


def expected_error(path: Path) -> float:
    """Return how far the mean of an image, which is what the network takes for its kernel, is from a point's 1."""
    return (1 - float(read_rgb(path).mean()) / 255) / 2


def test_a_known_kernel_is_what_the_image_is_made_with(folder: Path) -> None:
    image = folder / "set/LRx2/a.png"
    words = ("upscale", image, "--engine", folder / "b.onnx", "-o")
    assert drc(*words, "own.png", cwd=folder).returncode == 0
    assert drc(*words, "known.png", "--kernel", folder / "set/kernels_x2/a.npz", cwd=folder).returncode == 0
    lr = read_rgb(image)
    assert np.array_equal(read_rgb(folder / "known.png"), nearest(lr, SCALE))
    own = nearest(np.floor(lr * np.float32(lr.mean() / 255) + 0.5), SCALE)
    assert np.abs(read_rgb(folder / "own.png") - own).max() <= 1


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ({"scale": 4}, "is for x4"),
        ({"factor": -1}, "negative weights"),
        ({"factor": 0.5}, "the sum 0.5, not 1"),
        ({"side": 81}, "is smaller than the blur kernel"),
    ],
)
def test_a_kernel_that_cannot_be_used_is_a_sentence_and_leaves_no_file(
    folder: Path, kernel: dict[str, float], message: str
) -> None:
    save_kernel(folder / "k.npz", **kernel)  # type: ignore[arg-type]
    words = ("upscale", folder / "set/LRx2/a.png", "--engine", folder / "b.onnx", "--kernel", "k.npz", "-o", "x.png")
    done = drc(*words, cwd=folder)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (folder / "x.png").exists()


def test_eval_compares_kernels_with_the_truth(folder: Path) -> None:
    done = drc("eval", folder / "b.onnx", "--data", folder / "set", "--json", cwd=folder)
    result = json.loads(done.stdout)
    errors = [expected_error(folder / f"set/LRx2/{name}.png") for name in ("a", "b")]
    assert [row["kernel_error"] for row in result["rows"]] == pytest.approx(errors, abs=1e-6)
    assert result["kernel_error"] == pytest.approx(np.mean(errors), abs=1e-6)
    assert "kernel error" in drc("eval", folder / "b.onnx", "--data", folder / "set", cwd=folder).stdout
    # Tiles share a kernel, the mean of theirs.
    tiled = drc("eval", folder / "b.onnx", "--data", folder / "set", "--json", "--tile", "16", cwd=folder)
    assert json.loads(tiled.stdout)["kernel_error"] == pytest.approx(np.mean(errors), abs=0.02)


def test_a_set_without_some_kernels_is_refused_and_one_without_any_is_scored(folder: Path) -> None:
    words = ("eval", folder / "b.onnx", "--data", folder / "set", "--json")
    (folder / "set/kernels_x2/b.npz").unlink()
    done = drc(*words, cwd=folder)
    assert done.returncode == 1
    assert "lacks the kernels of 1 of 2 images: b." in done.stderr
    (folder / "set/kernels_x2/a.npz").unlink()
    (folder / "set/kernels_x2").rmdir()
    assert json.loads(drc(*words, cwd=folder).stdout)["kernel_error"] is None


def test_info_shows_the_estimate_next_to_the_truth(folder: Path) -> None:
    image = folder / "set/LRx2/a.png"
    done = drc("info", folder / "b.onnx", "--image", image, "-o", "k.png", "--json", cwd=folder)
    blur = json.loads(done.stdout)["blur"]
    assert blur["kernel_error"] == pytest.approx(expected_error(image), abs=1e-6)
    assert blur["true"] == {"long_sigma_lr_px": 0, "short_sigma_lr_px": 0, "direction_degrees": None}
    height, width = read_rgb(folder / "k.png").shape[:2]
    assert width > 2 * height
    assert (
        "true" in json.loads(drc("info", "../../b.onnx", "--image", "a.png", "--json", cwd=image.parent).stdout)["blur"]
    )
    image.with_name("ax2.png").write_bytes(image.read_bytes())
    named = drc("info", folder / "b.onnx", "--image", image.with_name("ax2.png"), "--json", cwd=folder)
    assert "true" in json.loads(named.stdout)["blur"]
    alone = folder / "set/HR/a.png"
    assert (
        "true" not in json.loads(drc("info", folder / "b.onnx", "--image", alone, "--json", cwd=folder).stdout)["blur"]
    )


def test_training_says_what_keeps_a_network_from_learning_blurs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_dcls(tmp_path / "tiny.safetensors", monkeypatch)
    train = ("train", "--model", "dcls_tiny", "--scale", SCALE, "--steps", 1, "--batch", 1, "-o", "t.safetensors")
    done = drc(*train, "--patch", 16, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "give --degradation dcls" in done.stderr
    assert "give --patch 48" in done.stderr
    done = drc(*train, "--patch", 48, "--degradation", "dcls", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dcls_tiny" not in done.stderr


def test_without_its_parts_a_network_is_scored_and_measured_all_the_same(folder: Path) -> None:
    (folder / "b.restorer.onnx").unlink()
    done = drc("eval", folder / "b.onnx", "--data", folder / "set", "--json", cwd=folder)
    assert json.loads(done.stdout)["kernel_error"] is None
    assert "Kernels are not compared" in done.stderr
    words = ("bench", folder / "b.onnx", "--data", folder / "set", "--out", folder / "out", *QUICK)
    assert drc(*words, cwd=folder).returncode == 0
    assert [strip.kernels for strip in read_report(folder / "out/report.json").crops if strip.kernels] == []


def test_info_refuses_what_it_cannot_show(folder: Path) -> None:
    assert "--image" in drc("info", folder / "b.onnx", "-o", "k.png", cwd=folder).stderr
    image = folder / "set/LRx2/a.png"
    for target, message in ((image, "exists"), ("k.jpg", "is no .png")):
        done = drc("info", folder / "b.onnx", "--image", image, "-o", target, cwd=folder)
        assert done.returncode == 2
        assert message in done.stderr
    done = drc("info", "drn_xs", "--image", folder / "set/LRx2/a.png", cwd=folder)
    assert done.returncode == 2
    assert "does not estimate blurs" in done.stderr


def test_a_report_shows_estimates_next_to_the_truth(folder: Path) -> None:
    words = ("bench", folder / "b.onnx", "--data", folder / "set", "--out", folder / "out", *QUICK)
    assert drc(*words, cwd=folder).returncode == 0
    report = read_report(folder / "out/report.json")
    for strip in report.crops:
        truth, found = strip.kernels
        assert (truth.label, truth.error, found.label) == ("true", None, "b.onnx")
        assert found.error == pytest.approx(expected_error(folder / f"set/LRx2/{strip.image}.png"), abs=1e-6)
        assert read_rgb(folder / "out" / truth.file).max() == 255
    page = (folder / "out/report.html").read_text()
    assert page.count("elsewhere</small>") == len(report.crops) > 0
    assert drc("report", folder / "out/report.json", "--out", folder / "again", cwd=folder).returncode == 0
    (folder / "set/kernels_x2/b.npz").unlink()
    done = drc(*words, cwd=folder)
    assert done.returncode == 1
    assert "lacks the kernels" in done.stdout + done.stderr
