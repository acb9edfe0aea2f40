import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from drc_deploy.cli.commands.upscale_command import choose_engine, command
from drc_deploy.cli.options import ByteSize
from drc_deploy.errors import ArtefactError, DrcDeployError, InputError, MissingDependencyError, UsageError
from drc_deploy.images.reading import read_image
from drc_deploy.images.strip_resizer import resize
from drc_deploy.runtime.upscaler import Upscaler
from tests.runtime.networks import nearest, write_nearest
from tests.runtime.tiling.test_exact import write_both


def upscale(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, shape, np.uint8)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "engines" / "n.onnx"
    path.parent.mkdir()
    write_nearest(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(noise(7, 5, 3)).save(path)
    return path


def test_parts_of_a_video_never_count_for_an_engine_that_did_not_compute_them(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Upscaler.open

    def open_and_replace(path: Path, **how: Any) -> Upscaler:
        upscaler = opened(path, **how)
        write_nearest(path, scale=2)
        return upscaler

    monkeypatch.setattr(Upscaler, "open", open_and_replace)
    film = engine.with_name("film.mp4")
    film.touch()
    result = upscale(film, "--engine", engine)
    assert isinstance(result.exception, ArtefactError)
    assert "was replaced" in result.exception.message


def test_a_file_is_written_next_to_the_input(engine: Path, photo: Path) -> None:
    result = upscale(photo, "--engine", engine)
    assert result.exit_code == 0
    assert "in_x4.png  20x28" in result.stdout
    assert np.array_equal(read_image(photo.with_name("in_x4.png")).pixels, nearest(noise(7, 5, 3), 4))


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--scale", 2], "in_x2.png", (14, 10)),
        (["--scale", "1.5"], "in_x1.5.png", (11, 8)),
        (["--width", 10], "in_w10.png", (14, 10)),
        (["--height", 20], "in_h20.png", (20, 14)),
        (["--max-side", 12], "in_max12.png", (12, 9)),
        (["--max-side", 1000], "in_max1000.png", (28, 20)),
        (["--fit", "15x14"], "in_15x14.png", (14, 10)),
        (["--scale", 2, "--linear-light"], "in_x2.png", (14, 10)),
    ],
)
def test_results_have_the_size_and_name_that_were_asked_for(
    engine: Path, photo: Path, options: list[object], name: str, size: tuple[int, int]
) -> None:
    result = upscale(photo, "--engine", engine, "--json", *options)
    (entry,) = json.loads(result.stdout)["files"]
    assert (entry["output"], entry["height"], entry["width"]) == (str(photo.with_name(name)), *size)
    expected = resize(nearest(noise(7, 5, 3), 4), *size, linear_light="--linear-light" in options)
    assert np.array_equal(read_image(photo.with_name(name)).pixels, expected)


@pytest.mark.parametrize(
    "options",
    [
        ["--scale", "4.5"],
        ["--scale", "0"],
        ["--scale", "nan"],
        ["--width", "10", "--height", "10"],
        ["--scale", "2", "--fit", "5x5"],
        ["--linear-light"],
        ["--width", "21"],
    ],
)
def test_sizes_that_cannot_be_made_are_one_sentence_and_leave_nothing(
    engine: Path, photo: Path, options: list[str]
) -> None:
    result = upscale(photo, "--engine", engine, *options)
    assert isinstance(result.exception, DrcDeployError)
    assert result.exception.hint
    assert [path.name for path in photo.parent.glob("*.png")] == ["in.png"]


@pytest.mark.parametrize("frame", ["10", "0x5", "5x", "axb", "-1x5", "5x5x5"])
def test_frames_that_are_none_are_refused(photo: Path, frame: str) -> None:
    result = upscale(photo, "--fit", frame)
    assert result.exit_code == 2
    assert "is no frame" in " ".join(result.stderr.split())


def test_an_image_of_a_folder_that_is_too_small_is_named(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for name, side in (("a.png", 9), ("b.png", 5)):
        Image.fromarray(noise(side, side, 3)).save(tmp_path / "album" / name)
    result = upscale(tmp_path / "album", "--engine", engine, "--width", 30)
    assert f"Failed: {tmp_path / 'album' / 'b.png'}: an image of 5x5 would" in result.stderr
    assert read_image(tmp_path / "album_w30" / "a.png").pixels.shape == (30, 30, 3)


def test_results_among_the_images_of_a_folder_are_noted(engine: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(4, 4, 3)).save(album / name)
    assert "results" not in upscale(album / "a.png", album / "b.png", "--engine", engine).stderr
    mixed = upscale(album, "--engine", engine)
    assert "2 of 4 are results of earlier commands, and are enlarged once more.\n" in mixed.stderr
    assert "results" not in upscale(f"{album}_x2", "--engine", engine).stderr


def test_what_is_said_of_a_folder_does_not_grow_with_its_images(engine: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for number in range(30):
        Image.fromarray(noise(4, 4, 3)).save(album / f"{number:02}.png")
    made = upscale(album, "--engine", engine)
    assert re.fullmatch(r"30 of 30 upscaled in \d+\.\d s\.", made.stdout.splitlines()[-1])
    assert re.fullmatch(r"Upscaling: 30/30, \d+ s\n", made.stderr)
    again = upscale(album, "--engine", engine)
    failed = [line for line in again.stderr.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 21
    assert failed[-1] == "Failed: 10 more like these; --json lists all."
    listed = json.loads(upscale(album, "--engine", engine, "--json").stdout)
    assert len(listed["failed"]) == 30


def test_failures_that_differ_in_figures_only_are_of_one_kind(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for side in range(4, 34):
        Image.fromarray(noise(side, 4, 3)).save(tmp_path / "album" / f"{side}.png")
    said = upscale(tmp_path / "album", "--engine", engine, "--width", 4000).stderr.splitlines()
    assert sum(line.startswith("Failed: ") for line in said) == 21


def test_a_name_of_two_lines_is_one_line(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "album" / "a\nFailed: b\x1b[8m.png")
    (tmp_path / "album" / "c\nb.png").write_bytes(b"")
    result = upscale(tmp_path / "album", "--engine", engine)
    made, summary = result.stdout.splitlines()
    assert r"album_x4/a\nFailed: b\x1b[8m.png  16x16" in made
    assert summary.startswith("1 of 2 upscaled")
    (failed,) = [line for line in result.stderr.splitlines() if line.startswith("Failed: ")]
    assert r"c\nb.png" in failed


def test_json_is_one_object_and_nothing_else(engine: Path, photo: Path) -> None:
    result = upscale(photo, "--engine", engine, "--json")
    report = json.loads(result.stdout)
    (entry,) = report["files"]
    assert (entry["input"], entry["width"], entry["height"]) == (str(photo), 20, 28)
    assert entry["output"] == str(photo.with_name("in_x4.png"))
    assert entry["seconds"] >= 0
    assert (report["failed"], report["engine"]) == ([], str(engine))
    assert report["device"] == "ONNX Runtime CPUExecutionProvider"


def test_nothing_is_written_over_without_leave(engine: Path, photo: Path) -> None:
    target = photo.with_name("in_x4.png")
    target.write_bytes(b"mine")
    result = upscale(photo, "--engine", engine)
    assert isinstance(result.exception, DrcDeployError)
    assert "exists already" in result.exception.message
    assert target.read_bytes() == b"mine"
    assert upscale(photo, "--engine", engine, "--overwrite").exit_code == 0
    assert read_image(target).pixels.shape == (28, 20, 3)


def test_the_input_is_never_the_output(engine: Path, photo: Path) -> None:
    before = photo.read_bytes()
    result = upscale(photo, "-o", photo, "--engine", engine, "--overwrite")
    assert isinstance(result.exception, DrcDeployError)
    assert "is the input itself" in result.exception.message
    assert photo.read_bytes() == before


@pytest.mark.parametrize(("output", "written"), [("o.jpg", "o.jpg"), ("new", "new/in_x4.png"), (".", "in_x4.png")])
def test_the_output_is_a_file_or_a_folder(engine: Path, photo: Path, tmp_path: Path, output: str, written: str) -> None:
    assert upscale(photo, "-o", tmp_path / output, "--engine", engine).exit_code == 0
    assert read_image(tmp_path / written).pixels.shape == (28, 20, 3)


def test_an_output_of_no_known_format_is_wrong_usage(engine: Path, photo: Path, tmp_path: Path) -> None:
    result = upscale(photo, "-o", tmp_path / "o.jxl", "--engine", engine)
    assert isinstance(result.exception, UsageError)


def test_a_folder_keeps_its_tree_and_a_bad_file_does_not_stop_the_rest(engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(noise(4, 4)).save(folder / "a.png")
    Image.fromarray(noise(4, 4)).save(folder / "a.bmp")
    Image.fromarray(noise(4, 4, 3)).save(folder / "sub" / "b.png")
    (folder / "bad.png").write_text("no image")
    result = upscale(folder, "--engine", engine, "--json")
    report = json.loads(result.stdout)
    written = {Path(entry["output"]).relative_to(tmp_path).as_posix() for entry in report["files"]}
    assert written == {"album_x4/a_png.png", "album_x4/a_bmp.png", "album_x4/sub/b.png"}
    assert [entry["input"] for entry in report["failed"]] == [str(folder / "bad.png")]
    assert isinstance(result.exception, DrcDeployError)
    assert result.exception.exit_code == 1
    assert result.exception.message.startswith("1 of 4 ")


def test_a_second_run_does_not_upscale_the_results_of_the_first(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    Image.fromarray(noise(4, 4)).save(tmp_path / "album" / "a.png")
    for _ in range(2):
        result = upscale(
            tmp_path / "album", "-o", tmp_path / "album" / "large", "--engine", engine, "--overwrite", "--json"
        )
        assert len(json.loads(result.stdout)["files"]) == 1


def test_a_folder_without_images_is_an_error(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert isinstance(upscale(tmp_path / "empty", "--engine", engine).exception, InputError)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), (b"", "is empty"), (b"text", "not an image")]
)
def test_a_bad_input_is_one_sentence_and_leaves_nothing(
    engine: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    result = upscale(tmp_path / "bad.png", "--engine", engine)
    assert isinstance(result.exception, DrcDeployError)
    assert message in result.exception.message
    assert not (tmp_path / "bad_x4.png").exists()


def test_a_folder_that_cannot_be_written_is_an_error(engine: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = upscale(photo, "-o", tmp_path / "file" / "x.png", "--engine", engine)
    assert isinstance(result.exception, DrcDeployError)
    assert "cannot write" in result.exception.message


def test_transparency_to_jpeg_is_refused_before_computing_unless_it_is_laid_on_a_colour(
    engine: Path, tmp_path: Path
) -> None:
    Image.fromarray(noise(5, 5, 4)).save(tmp_path / "in.png")
    result = upscale(tmp_path / "in.png", "-o", tmp_path / "x.jpg", "--engine", engine)
    assert isinstance(result.exception, DrcDeployError)
    assert "transparency" in result.exception.message
    assert "--background" in result.exception.hint
    assert (
        upscale(tmp_path / "in.png", "-o", tmp_path / "x.jpg", "--engine", engine, "--background", "#fff").exit_code
        == 0
    )
    assert read_image(tmp_path / "x.jpg").pixels.shape == (20, 20, 3)


@pytest.mark.parametrize(("kind", "suffix"), [("jpg", "jpg"), ("webp", "webp"), ("avif", "avif"), ("tiff", "tiff")])
def test_a_format_is_that_of_results_in_folders_and_of_names_that_are_made(
    engine: Path, photo: Path, kind: str, suffix: str
) -> None:
    assert upscale(photo, "--engine", engine, "--format", kind).exit_code == 0
    made = photo.with_name(f"in_x4.{suffix}")
    with Image.open(made) as image:
        assert image.format == {"jpg": "JPEG", "tiff": "TIFF"}.get(kind, kind.upper())
    (photo.parent / "photos").mkdir()
    photo.rename(photo.parent / "photos" / "a.png")
    assert upscale(photo.parent / "photos", "--engine", engine, "--format", kind).exit_code == 0
    assert [path.name for path in (photo.parent / "photos_x4").iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.png", "--format", "jpg"), "is a PNG, and --format asks for JPEG"),
        (("-o", "-", "--format", "jpg"), "is a PNG, and --format asks for JPEG"),
        (("--quality", "80"), "PNG is written without a loss"),
        (("-o", "-", "--quality", "80"), "PNG is written without a loss"),
        (("--background", "whitish"), "whitish is not a colour"),
    ],
)
def test_ways_of_saving_that_cannot_be_meant_are_wrong_usage(
    engine: Path, photo: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = upscale(photo, "--engine", engine, *arguments)
    assert isinstance(result.exception, UsageError)
    assert message in result.exception.message
    assert sorted(path.name for path in photo.parent.iterdir()) == ["engines", "in.png"]


def test_a_format_agrees_with_the_name_of_a_file_of_that_format(engine: Path, photo: Path) -> None:
    output = photo.with_name("x.jpeg")
    assert upscale(photo, "--engine", engine, "-o", output, "--format", "jpg", "--quality", "50").exit_code == 0
    assert read_image(output).pixels.shape == (28, 20, 3)


def test_ways_of_saving_images_are_refused_for_a_video(engine: Path) -> None:
    film = engine.with_name("film.mp4")
    film.touch()
    result = upscale(film, "--engine", engine, "--quality", "80")
    assert isinstance(result.exception, UsageError)
    assert "are for images" in result.exception.message


def test_without_an_engine_the_newest_is_taken_and_named(engine: Path, photo: Path) -> None:
    newest = engine.with_name("newer.onnx")
    write_nearest(newest, scale=2)
    write_nearest(engine.with_name("newer.float.onnx"), scale=2, io_dtype="float32")
    os.utime(engine, (1, 1))
    result = upscale(photo, "--workdir", engine.parent)
    assert result.exit_code == 0
    assert f"newest engine: {newest}" in result.stderr
    assert photo.with_name("in_x2.png").exists()


def test_without_any_engine_a_shipped_network_is_taken_and_named(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = upscale(photo, "--workdir", tmp_path / "nothing")
    assert result.exit_code == 0
    assert "Using the shipped drn_e. Choose another with --engine" in result.stderr
    named = upscale(photo, "--engine", "drn_e", "-o", tmp_path / "named.png")
    assert named.exit_code == 0
    assert np.array_equal(read_image(tmp_path / "in_x4.png").pixels, read_image(tmp_path / "named.png").pixels)


def test_without_any_engine_and_torch_the_error_says_what_to_install(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = upscale(photo, "--workdir", tmp_path)
    assert isinstance(result.exception, MissingDependencyError)
    assert "pip install" in result.exception.hint
    assert "--engine" in result.exception.hint


def test_a_work_folder_of_checkpoints_is_not_passed_over(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    result = upscale(photo, "--workdir", tmp_path)
    assert isinstance(result.exception, ArtefactError)
    assert "--engine" in result.exception.hint


@pytest.mark.parametrize("name", ["out.png", "new folder"])
def test_a_second_name_that_does_not_exist_is_meant_as_the_output(engine: Path, photo: Path, name: str) -> None:
    target = photo.with_name(name)
    result = upscale(photo, target, "--engine", engine)
    assert isinstance(result.exception, UsageError)
    assert result.exception.hint == f"Name the output with -o: drc-deploy upscale {photo} -o {shlex.quote(str(target))}"
    assert not photo.with_name("in_x4.png").exists()


def test_every_pixel_of_an_image_in_many_tiles_is_right(engine: Path, tmp_path: Path) -> None:
    image = noise(150, 90, 4)
    Image.fromarray(image).save(tmp_path / "large.png")
    result = upscale(tmp_path / "large.png", "--engine", engine, "--tile", 40, "--overlap", 6, "--threads", 1)
    assert result.exit_code == 0
    colours = read_image(tmp_path / "large_x4.png").pixels[:, :, :3]
    visible = nearest(image[:, :, 3], 4) > 0  # others take the colour of a neighbour
    assert np.array_equal(colours[visible], nearest(image[:, :, :3], 4)[visible])


def test_results_never_replace_each_other_or_another_input(engine: Path, photo: Path, tmp_path: Path) -> None:
    twin = tmp_path / "other" / photo.name
    twin.parent.mkdir()
    twin.write_bytes(photo.read_bytes())
    apart = upscale(photo, twin, "--engine", engine, "-o", tmp_path / "out", "--overwrite")
    assert isinstance(apart.exception, UsageError)
    assert "would both become" in str(apart.exception)
    result = photo.with_name(f"{photo.stem}_x4.png")
    result.write_bytes(photo.read_bytes())
    again = upscale(photo, result, "--engine", engine, "--overwrite")
    assert "is an input too" in str(again.exception)
    assert result.read_bytes() == photo.read_bytes()


def test_a_folder_is_not_upscaled_into_itself_but_into_the_one_around_it(engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "in"
    folder.mkdir(parents=True)
    Image.fromarray(noise(4, 5, 3)).save(folder / "a.png")
    assert "where the inputs come from" in str(upscale(folder, "--engine", engine, "-o", folder).exception)
    assert upscale(folder, "--engine", engine, "-o", folder.parent).exit_code == 0
    assert (folder.parent / "a.png").is_file()


def test_a_name_that_is_too_long_is_an_error_of_the_image(engine: Path) -> None:
    assert isinstance(upscale("a" * 5000 + ".png", "--engine", engine).exception, DrcDeployError)


def test_a_quoted_pattern_is_upscaled_and_a_second_run_skips_what_is_finished(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.fromarray(noise(4, 4, 3)).save(tmp_path / "album" / name)
    pattern = tmp_path / "album" / "**" / "*.png"
    assert upscale(pattern, "--engine", engine).exit_code == 0
    Image.fromarray(noise(4, 4, 3)).save(tmp_path / "album" / "c.png")
    result = upscale(pattern, "--engine", engine, "--skip-existing", "--json")
    report = json.loads(result.stdout)
    assert [Path(item["output"]).name for item in report["skipped"]] == ["a.png", "b.png"]
    assert [Path(item["output"]).name for item in report["files"]] == ["c.png"]
    again = upscale(pattern, "--engine", engine, "--skip-existing")
    assert (again.exit_code, again.stdout) == (0, "3 of 3 skipped: their results exist.\n")


def test_results_of_another_engine_or_of_other_options_are_made_again(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noise(4, 4, 3)).save(tmp_path / "album" / name)
    arguments = [tmp_path / "album", "-o", tmp_path / "out", "--engine", engine, "--skip-existing"]
    assert upscale(*arguments).exit_code == 0
    skipped, again = "2 of 2 skipped: their results exist.\n", "2 of 2 done again: "
    assert upscale(*arguments, "--threads", 1).stdout == skipped
    assert again in upscale(*arguments, "--scale", 2).stdout
    assert read_image(tmp_path / "out" / "a.png").pixels.shape == (8, 8, 3)
    assert upscale(*arguments, "--scale", 2).stdout == skipped
    assert again in upscale(*arguments, "--scale", 2, "--linear-light").stdout
    assert again in upscale(*arguments, "--overlap", 1).stdout
    write_nearest(engine, scale=3)
    assert json.loads(upscale(*arguments, "--overlap", 1, "--json").stdout)["redone"] == 2
    assert read_image(tmp_path / "out" / "a.png").pixels.shape == (12, 12, 3)


def test_one_image_alone_leaves_nothing_but_its_result(engine: Path, photo: Path) -> None:
    before = {path.name for path in photo.parent.iterdir()}
    assert upscale(photo, "--engine", engine).exit_code == 0
    assert {path.name for path in photo.parent.iterdir()} - before == {"in_x4.png"}


def test_skipping_and_writing_over_contradict_each_other(engine: Path, photo: Path) -> None:
    result = upscale(photo, "--engine", engine, "--skip-existing", "--overwrite")
    assert isinstance(result.exception, UsageError)


def test_a_truncated_jpeg_needs_tolerance_and_gets_a_note(
    engine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(noise(60, 40, 3)).save(tmp_path / "in.jpg")
    content = (tmp_path / "in.jpg").read_bytes()
    (tmp_path / "in.jpg").write_bytes(content[: len(content) // 2])
    assert "is damaged" in str(upscale(tmp_path / "in.jpg", "--engine", engine).exception)
    assert upscale(tmp_path / "in.jpg", "--engine", engine, "--tolerant").exit_code == 0
    assert "ends early" in caplog.text
    assert read_image(tmp_path / "in_x4.png").pixels.shape == (240, 160, 3)


def test_the_limit_on_pixels_is_an_option(engine: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    refused = upscale(photo, "--engine", engine, "--max-pixels", 30)
    assert "is too large" in str(refused.exception)
    assert upscale(photo, "--engine", engine, "--max-pixels", 35).exit_code == 0


def test_an_output_name_that_is_too_long_is_one_sentence(engine: Path, photo: Path, tmp_path: Path) -> None:
    result = upscale(photo, "--engine", engine, "-o", tmp_path / ("a" * 252 + ".png"))
    assert isinstance(result.exception, DrcDeployError)
    assert "File name too long" in result.exception.message
    longest = tmp_path / ("a" * 251 + ".png")
    assert upscale(photo, "--engine", engine, "-o", longest).exit_code == 0
    assert read_image(longest).pixels.shape == (28, 20, 3)


@pytest.mark.parametrize("amount", ["0GiB", "12", "-1MiB", "1e3MiB", "nan GiB", "3TiB", "9" * 50 + "GiB"])
def test_amounts_of_memory_that_are_none_are_refused(amount: str) -> None:
    result = upscale("x.png", "--max-memory", amount)
    assert result.exit_code == 2
    assert "is no amount of memory" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("amount", "size"), [("800MiB", 800 << 20), ("1.5gib", 3 << 29), ("2 GB", 2 * 10**9)])
def test_amounts_of_memory_have_their_units(amount: str, size: int) -> None:
    assert ByteSize().convert(amount, None, None) == size


def test_exact_tiles_are_those_of_the_whole_image(tmp_path: Path) -> None:
    path, image = write_both(tmp_path), noise(40, 33, 3)
    image[:20] //= 4
    Image.fromarray(image).save(tmp_path / "in.png")
    results = []
    for name, options in {"whole": ["--tile", 64], "exact": ["--tile", 16, "--overlap", 2, "--exact"]}.items():
        result = upscale(tmp_path / "in.png", "--engine", path, "-o", tmp_path / f"{name}.png", *options)
        assert result.exit_code == 0, result.stderr
        results.append(read_image(tmp_path / f"{name}.png").pixels.astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1


def test_a_file_that_only_serves_another_is_no_engine(tmp_path: Path) -> None:
    path = write_both(tmp_path)
    exact = path.with_suffix(".exact.onnx")
    os.utime(exact, (2e9, 2e9))
    assert choose_engine(tmp_path)[0] == path
    result = upscale(tmp_path, "--engine", exact)
    assert isinstance(result.exception, ArtefactError)
    assert str(path) in result.exception.hint


def test_a_file_that_is_missing_is_known_before_a_network_is_loaded(tmp_path: Path) -> None:
    result = upscale(tmp_path / "none.png", "--engine", tmp_path / "none.onnx")
    assert str(result.exception) == f"{tmp_path / 'none.png'} does not exist."


def test_a_folder_of_checkpoints_alone_asks_which(tmp_path: Path) -> None:
    older, newer = (tmp_path / f"{name}.safetensors" for name in ("first", "second"))
    for path in (older, newer):
        path.touch()
    os.utime(older, (1e9, 1e9))
    with pytest.raises(ArtefactError) as caught:
        choose_engine(tmp_path)
    assert f"--engine {newer}," in caught.value.hint


def test_help_lists_every_option_once_under_its_heading() -> None:
    text = CliRunner().invoke(command, ["--help"], terminal_width=80).output
    text = text[text.index("\nOptions:") :]
    assert re.findall(r"^(\S.*):$", text, re.MULTILINE) == [
        "Options",
        "Size of results",
        "Images",
        "Videos",
        "Computation",
    ]
    listed = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)
    known = [name for option in command.params for name in option.opts if name.startswith("--")]
    assert sorted(listed) == sorted([*known, "--help"])
