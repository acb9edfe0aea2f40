import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from drc_deploy.bench.measure.quality import score_pair
from drc_deploy.cli.main import main
from drc_deploy.locate import sample_images
from drc_deploy.pairs import Pair, Photograph
from tests.runtime.networks import nearest, write_nearest


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


@pytest.fixture
def pair() -> Pair:
    full = Photograph(sample_images()[0]).load(4)
    return Pair("part", full.hr[:200, :240], full.lr[:50, :60])


@pytest.fixture
def data(tmp_path: Path, pair: Pair) -> Path:
    for folder, image in (("HR", pair.hr), ("LRx4", pair.lr)):
        (tmp_path / "set" / folder).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "set" / folder / "part.png"), image[:, :, ::-1])
    return tmp_path / "set"


def test_bicubic_prints_a_row_per_image_and_the_mean(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", "bicubic", "--data", data) == 0
    out = capsys.readouterr().out
    assert "part" in out
    assert "mean of 1" in out


def test_json_is_one_object_with_means_and_rows(data: Path, pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(data / "n.onnx")
    assert run("eval", data / "n.onnx", "--data", data, "--json", "--threads", 1) == 0
    result = json.loads(capsys.readouterr().out)
    expected = score_pair(pair, nearest(pair.lr, 4), 4)
    assert result["psnr_y"] == pytest.approx(expected.psnr_y)
    assert result["ssim_y"] == pytest.approx(expected.ssim_y)
    error = (pair.hr.astype(float) - nearest(pair.lr, 4))[4:-4, 4:-4]
    assert result["psnr_rgb"] == pytest.approx(20 * np.log10(255 / np.sqrt((error**2).mean())))
    assert result["rows"][0]["psnr_rgb"] == result["psnr_rgb"]
    assert (result["images"], result["scale"], result["rows"][0]["image"]) == (1, 4, "part")


def test_tiles_of_a_network_without_context_change_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(data / "n.onnx")
    scores = []
    for tiling in ([], ["--tile", 16, "--overlap", 2]):
        assert run("eval", data / "n.onnx", "--data", data, "--json", *tiling) == 0
        scores.append(json.loads(capsys.readouterr().out)["psnr_y"])
    assert scores[0] == scores[1]


def test_an_identical_image_has_a_psnr_of_null(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nearest(data / "n.onnx")
    lr = cv2.imread(str(data / "LRx4/part.png"))
    assert lr is not None
    assert cv2.imwrite(str(data / "HR/part.png"), lr.repeat(4, axis=0).repeat(4, axis=1))
    assert run("eval", data / "n.onnx", "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["psnr_y"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["bicubic", "--data", "{data}/none"], 1, "there is no folder"),
        (["bicubic", "--data", "{data}", "--lr-dir", "LRx8"], 1, "it holds HR, LRx4"),
        (["bicubic", "--data", "{data}", "--lr-dir", "LRx4", "--scale", "2"], 1, "not 2 times as large"),
        (["nothing", "--data", "{data}"], 1, "no shipped model of that name"),
        (["{data}/n.onnx", "--data", "{data}", "--scale", "2"], 2, "upscales by 4, not by 2"),
        (["bicubic"], 2, "Missing option '--data'"),
    ],
)
def test_mistakes_end_in_a_sentence_and_an_exit_code(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    write_nearest(data / "n.onnx")
    assert run("eval", *[argument.format(data=data) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err


def test_a_damaged_image_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "LRx4/part.png").write_bytes((data / "LRx4/part.png").read_bytes()[:300])
    assert run("eval", "bicubic", "--data", data) == 1
    assert "LRx4/part.png" in capsys.readouterr().err


def test_published_bicubic_on_set5(benchmark_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", "bicubic", "--data", benchmark_data / "Set5", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    psnrs = [round(row["psnr_y"], 3) for row in rows]
    np.testing.assert_allclose(psnrs, [31.786, 30.187, 22.101, 31.615, 26.469], atol=0.0011)
