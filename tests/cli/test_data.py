import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import ndimage

from drc_deploy.cli.commands.data_command import command
from drc_deploy.errors import DrcDeployError, UsageError
from drc_deploy.pairs import find_pairs
from tests.train.data.photograph_files import noise, write, write_div2k, write_many


def data(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


def test_prepare_reports_what_was_stored_skipped_and_what_is_next(tmp_path: Path) -> None:
    images = write_many(tmp_path / "photos", 3)
    (tmp_path / "photos" / "bad.png").write_text("bad")
    store = tmp_path / "store"
    result = data("prepare", tmp_path / "photos", "-o", store)
    assert result.exception is None
    assert f"3 images, 0.03 megapixels, {sum(image.size for image in images)} bytes" in result.stdout
    assert "1 skipped" in result.stdout
    assert f"Next: drc-deploy train --model drn_xs --data {store}" in result.stdout
    assert f"Skipped: {tmp_path}/photos/bad.png" in result.stderr
    assert "Nothing to do" in data("prepare", tmp_path / "photos", "-o", store).stdout


def test_json_is_one_object_on_standard_output(tmp_path: Path) -> None:
    write_div2k(tmp_path / "div2k")
    write(tmp_path / "more" / "a_HR" / "1.png", noise(1, 128, 128))
    write(tmp_path / "more" / "a_LR" / "x4" / "1.png", noise(2, 32, 32))
    result = data(
        "prepare", tmp_path / "div2k", tmp_path / "more", "-o", tmp_path / "store", "--lr", "paired", "--json"
    )
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["lr_factors"], summary["made"]) == (3, [2, 4, 8], True)
    assert len(summary["skipped"]) == 1


def test_another_request_for_the_same_store_is_a_usage_error_until_restarted(tmp_path: Path) -> None:
    write_many(tmp_path / "photos", 3)
    arguments = ("prepare", tmp_path / "photos", "-o", tmp_path / "store")
    data(*arguments)
    assert isinstance(data(*arguments, "--min-side", 97).exception, UsageError)
    assert "2 images" in data(*arguments, "--min-side", 97, "--restart").stdout


@pytest.mark.parametrize(
    "arguments", [("nowhere", "-o", "store"), ("-o", "store"), (".",), (".", "-o", "x", "--lr", "")]
)
def test_arguments_that_cannot_be_right_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(data("prepare", *arguments).exception, click.UsageError)
    assert not list(tmp_path.iterdir())


def folder_of(tmp_path: Path) -> Path:
    for number in range(2):
        write(tmp_path / "photos" / f"{number}.png", noise(number, 50, 67))
    return tmp_path / "photos"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_degraded_set_is_one_that_eval_reads(tmp_path: Path) -> None:
    photos, target = folder_of(tmp_path), tmp_path / "set"
    result = data("degrade", photos, "-o", target, "--degradation", "div2krk", "--seed", 5)
    assert result.exception is None, result.exception
    assert f"Wrote {target}: 2 images in HR/, LRx4/, kernels_x4/; degradation_x4.json" in result.stdout
    assert "a stand-in for DIV2KRK" in result.stdout
    for number, files in enumerate(find_pairs(target, "LRx4", 4)):
        pair, kernel = files.load(4), np.load(target / "kernels_x4" / f"{number}.npz")
        assert np.array_equal(pair.hr, noise(number, 50, 67)[:48, :64])
        assert (int(kernel["scale"]), str(kernel["reduction"])) == (4, "subsample")
        blurred = ndimage.correlate(pair.hr[:, :, 0].astype(float), kernel["kernel"], mode="reflect")
        assert np.array_equal(pair.lr[:, :, 0], np.floor(blurred[::4, ::4] + 0.5))
    record = json.loads((target / "degradation_x4.json").read_text())
    assert (record["degradation"], record["seed"], record["settings"]["variance"]) == ("div2krk", 5, [0.7, 10.0])
    assert [image["name"] for image in record["images"]] == ["0", "1"]


def test_the_same_seed_makes_the_same_set(tmp_path: Path) -> None:
    photos = folder_of(tmp_path)
    (tmp_path / "phone.toml").write_text("sigma = [0.5, 2]\nnoise = [0, 20]\njpeg = [30, 80]\n")
    sets = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = data("degrade", photos, "-o", tmp_path / name, "--degradation", tmp_path / "phone.toml", "--seed", seed)
        assert made.exception is None, made.exception
        sets.append(contents(tmp_path / name))
    assert sets[0] == sets[1]
    assert all(sets[0][name] != sets[2][name] for name in sets[0] if not name.startswith("HR"))
    noises = [image["noise"] for image in json.loads(sets[0]["degradation_x4.json"])["images"]]
    assert len(set(noises)) == 2


def test_a_bicubic_set_has_no_kernels(tmp_path: Path) -> None:
    made = data("degrade", folder_of(tmp_path), "-o", tmp_path / "set", "--degradation", "bicubic", "--scale", 2)
    assert made.exception is None, made.exception
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["HR", "LRx2", "degradation_x2.json"]
    assert "in HR/, LRx2/;" in made.stdout
    assert f"Next: drc-deploy eval bicubic --scale 2 --data {tmp_path / 'set'}" in made.stdout


def test_a_set_is_replaced_on_request_and_nothing_else_is(tmp_path: Path) -> None:
    photos, target = folder_of(tmp_path), tmp_path / "set"
    arguments = ("degrade", photos, "-o", target, "--degradation", "gaussian")
    data(*arguments)
    before = contents(target)
    assert "add --restart" in str(data(*arguments, "--seed", 2).exception.hint)  # type: ignore[union-attr]
    assert contents(target) == before
    data(*arguments, "--seed", 2, "--restart")
    assert contents(target) != before
    other_scale = data(*arguments, "--scale", 2, "--restart").exception
    assert "a set of another scale" in str(getattr(other_scale, "message", ""))
    (target / "notes.txt").write_text("mine")
    refused = data(*arguments, "--restart").exception
    assert "notes.txt" in str(refused)
    assert "holds other files" in str(data("degrade", photos, "-o", photos, "--degradation", "dcls").exception)
    assert (target / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"]


def test_the_working_folder_and_files_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, here = folder_of(tmp_path), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (tmp_path / "file").write_text("mine")
    for target, words in ((".", "is in use"), (tmp_path / "file", "is a file")):
        refused = data("degrade", photos, "-o", target, "--degradation", "gaussian").exception
        assert words in str(getattr(refused, "message", refused))
    assert not list(here.iterdir())


def test_what_cannot_be_degraded_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    photos, small = folder_of(tmp_path), tmp_path / "small"
    write(small / "a.png", noise(1, 60, 60))
    write(small / "b.png", noise(1, 30, 60))
    (tmp_path / "bad.toml").write_text("blur = 3")
    target = tmp_path / "set"
    for folder, degradation, scale, words in (
        (small, "dcls", 4, "b.png of 60x28 pixels is smaller than the blur kernel"),
        (photos, "dcls", 3, "was published for x2, x4"),
        (photos, tmp_path / "bad.toml", 4, "sets 'blur'"),
        (photos, "nothing", 4, "Known names are bicubic, gaussian, dcls, div2krk"),
        (photos, "guassian", 4, "Did you mean gaussian?"),
        (tmp_path / "empty", "dcls", 4, "holds no images"),
        (photos, "bicubic", 1, "not in the range"),
    ):
        folder.mkdir(exist_ok=True)
        made = data("degrade", folder, "-o", target, "--degradation", degradation, "--scale", scale)
        error = made.exception
        assert words in (error.message if isinstance(error, click.ClickException | DrcDeployError) else ""), error
    assert not [path for path in tmp_path.iterdir() if "set" in path.name]
