import os
from pathlib import Path

import pytest

from drc_deploy.errors import DrcDeployError, InputError, UsageError
from drc_deploy.runtime.jobs.plan import UpscaleJob, plan_jobs


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of files, two levels deep, with the folder around it as the working directory."""
    for name in ("a.jpg", "b.png", "notes.txt", ".hidden.jpg", "sub/c.jpg", "sub/deep/d.JPG", "other/e.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def planned(*inputs: str, output: str | None = None) -> dict[str, str]:
    return {str(job.source): str(job.target) for job in plan_jobs(inputs, output, "x4")}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/*.jpg", {"a.jpg"}),
        ("photos/**/*.jpg", {"a.jpg", "sub/c.jpg", "other/e.jpg"}),
        ("photos/*/*.jpg", {"sub/c.jpg", "other/e.jpg"}),
        ("photos/[ab].*", {"a.jpg", "b.png"}),
        ("photos/?.png", {"b.png"}),
        ("photos/sub/**", {"sub/c.jpg", "sub/deep/d.JPG"}),
        ("photos/s*", {"sub/c.jpg", "sub/deep/d.JPG"}),
        ("pho*/*.png", {"b.png"}),
    ],
)
def test_a_pattern_means_what_it_matches(photos: Path, pattern: str, names: set[str]) -> None:
    assert {Path(source).relative_to("photos").as_posix() for source in planned(pattern)} == names


def test_a_pattern_goes_where_its_folder_would_with_the_same_tree(photos: Path) -> None:
    assert planned("photos/**/*.jpg")["photos/sub/c.jpg"] == "photos_x4/sub/c.png"
    assert planned("photos")["photos/sub/c.jpg"] == "photos_x4/sub/c.png"
    assert planned("photos/**/*.jpg", output="out")["photos/sub/c.jpg"] == "out/sub/c.png"
    assert planned("photos/sub/*.jpg", "photos/b.png", output="out") == {
        "photos/sub/c.jpg": "out/sub/c.png",
        "photos/b.png": "out/b_x4.png",
    }


def test_a_name_with_brackets_that_exists_is_a_name(photos: Path) -> None:
    (photos / "img[1].jpg").touch()
    assert planned("photos/img[1].jpg") == {"photos/img[1].jpg": "photos/img[1]_x4.png"}


def test_an_image_that_two_patterns_match_is_upscaled_once(photos: Path) -> None:
    assert planned("photos/*.jpg", "photos/a*") == {"photos/a.jpg": "photos_x4/a.png"}


def test_the_results_of_a_run_are_not_the_inputs_of_the_next(photos: Path) -> None:
    (photos / "large").mkdir()
    (photos / "large" / "a.jpg").touch()
    assert "photos/large/a.jpg" not in planned("photos/**/*.jpg", output="photos/large")


def test_links_in_a_circle_end(photos: Path) -> None:
    (photos / "sub" / "circle").symlink_to(photos)
    assert len(planned("photos/**/*.jpg")) == 3


@pytest.mark.parametrize("name", [".", "../photos", "*.jpg"])
def test_results_of_the_current_folder_go_next_to_it(photos: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(photos)
    (target,) = [target for source, target in planned(name).items() if Path(source).name == "a.jpg"]
    assert os.path.normpath(photos / target) == str(photos.parent / "photos_x4" / "a.png")


def test_the_home_folder_may_be_named_in_a_quoted_pattern(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    assert planned("~/photos/*.png") == {str(photos / "b.png"): str(photos.parent / "photos_x4" / "b.png")}


@pytest.mark.parametrize(
    ("inputs", "output", "kind", "message"),
    [
        (["photos/*.heic"], None, InputError, "no image or video matches"),
        (["nowhere/*.jpg"], None, InputError, "no image or video matches"),
        (["photos/*.txt"], None, InputError, "no image or video matches"),
        (["photos/a**/x.jpg"], None, DrcDeployError, "a\\*\\*"),
        (["photos/*/../../x.jpg"], None, UsageError, "leaves the folder"),
        (["photos/*.jpg"], "one.png", UsageError, "name of one file"),
        (["photos"], "one.png", UsageError, "name of one file"),
        (["photos/*.jpg"], "photos", UsageError, "where the inputs come from"),
        ([""], None, UsageError, "empty name"),
        (["photos/a.jpg", ""], "out", UsageError, "empty name"),
        (["-"], None, UsageError, "has no name"),
        (["-"], "photos", UsageError, "has no name"),
        (["-"], "x.jxl", UsageError, "has no name"),
        (["-", "photos/a.jpg"], "x.png", UsageError, "holds one image"),
        (["photos/a.jpg", "photos/b.png"], "-", UsageError, "holds one image"),
        (["photos"], "-", UsageError, "holds one image"),
        (["photos/*.jpg"], "-", UsageError, "holds one image"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    photos: Path, inputs: list[str], output: str | None, kind: type[DrcDeployError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        plan_jobs(inputs, output, "x4")
    assert caught.value.hint


def test_a_dash_is_a_standard_stream_and_a_path_to_such_a_file_is_not(photos: Path) -> None:
    assert plan_jobs(["-"], "-", "x4") == [UpscaleJob(None, None)]
    assert plan_jobs(["-"], "x.png", "x4") == [UpscaleJob(None, Path("x.png"))]
    assert plan_jobs(["photos/a.jpg"], "-", "x4") == [UpscaleJob(Path("photos/a.jpg"), None)]
    assert plan_jobs(["./-"], None, "x4") == [UpscaleJob(Path("-"), Path("-_x4.png"))]


def test_a_pattern_enters_hidden_folders_only_where_it_names_them(photos: Path) -> None:
    for name in (".thumbnails/t.jpg", "sub/@eaDir/u.jpg", "sub/.git/deep/v.jpg"):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).touch()
    assert planned("photos/**/*.jpg").keys() == {"photos/a.jpg", "photos/sub/c.jpg", "photos/other/e.jpg"}
    assert planned("photos/*").keys() >= {"photos/a.jpg", "photos/sub/c.jpg"}
    assert not any("thumb" in name or "eaDir" in name for name in planned("photos/*"))
    assert planned("photos/.thumb*/*.jpg").keys() == {"photos/.thumbnails/t.jpg"}
    assert planned("photos/**/@eaDir/*.jpg").keys() == {"photos/sub/@eaDir/u.jpg"}
    assert planned("photos/.thumbnails").keys() == {"photos/.thumbnails/t.jpg"}


@pytest.mark.parametrize("name", ["photos", "photos/*", "photos/**/*"])
def test_what_is_left_out_of_a_folder_or_pattern_is_counted_in_one_note(
    photos: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    for other in ("g.svg", "h.svg", "sub/i.psd"):
        (photos / other).touch()
    planned(name)
    assert [record.getMessage() for record in caplog.records] == [f"{name}: 3 files are left out: 1 .psd, 2 .svg."]


def test_a_folder_of_other_pictures_alone_says_so(photos: Path) -> None:
    (photos / "psd").mkdir()
    (photos / "psd" / "a.psd").touch()
    with pytest.raises(InputError, match="holds no images") as caught:
        planned("photos/psd")
    assert "1 .psd" in caught.value.hint


@pytest.mark.parametrize("suffix", [".jpe", ".jfif"])
def test_rare_suffixes_of_jpeg_name_a_result_too(photos: Path, suffix: str) -> None:
    assert planned("photos/b.png", output=f"out{suffix}") == {"photos/b.png": f"out{suffix}"}


@pytest.mark.parametrize(
    ("name", "output", "target"),
    [
        ("in.mp4", None, "in_x4.mp4"),
        ("in.webm", None, "in_x4.webm"),
        ("in.ts", None, "in_x4.mkv"),
        ("in.MOV", None, "in_x4.MOV"),
        ("in.mp4", "o.mkv", "o.mkv"),
        ("in.mkv", ".", "in_x4.mkv"),
    ],
)
def test_where_a_video_goes(photos: Path, name: str, output: str | None, target: str) -> None:
    (photos.parent / name).touch()
    assert plan_jobs([name], output, "x4") == [UpscaleJob(Path(name), Path(target))]


@pytest.mark.parametrize(
    ("name", "output"),
    [("in.mp4", "o.gif"), ("in.mp4", "o.png"), ("in.mp4", "-"), ("photos/a.jpg", "o.mp4"), ("photos", "o.mp4")],
)
def test_a_name_of_the_other_kind_is_wrong_usage(photos: Path, name: str, output: str) -> None:
    assert photos.is_dir()
    with pytest.raises(UsageError):
        plan_jobs([name], output, "x4")


def test_videos_are_found_with_images_and_keep_their_format(photos: Path) -> None:
    for name in ("v.mp4", "sub/w.avi", "sub/w.mpg", ".trash.mp4"):
        (photos / name).touch()
    assert {target for source, target in planned("photos").items() if not source.endswith("jpg")} >= {
        "photos_x4/v.mp4",
        "photos_x4/sub/w_avi.mkv",
        "photos_x4/sub/w_mpg.mkv",
    }
    assert planned("photos/*.mp4") == {"photos/v.mp4": "photos_x4/v.mp4"}
