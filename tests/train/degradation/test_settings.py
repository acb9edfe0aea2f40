"""Settings are those of the papers, and what a file has wrong is a sentence."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from drc_deploy.errors import InputError, UsageError
from drc_deploy.train.degradation.settings import Degradation, find_degradation


def test_published_settings_are_found_by_name_and_scale() -> None:
    gaussian, dcls, div2krk = (find_degradation(name, 4) for name in ("gaussian", "dcls", "div2krk"))
    assert gaussian == Degradation(sigma=(0.2, 4), kernel_size=21, isotropic=1)
    assert dcls == Degradation(sigma=(0.6, 5), kernel_size=31, disturbance=(0, 0.25))
    assert div2krk == Degradation(variance=(0.7, 10), kernel_size=21, disturbance=(-0.4, 0.4), reduction="subsample")
    smaller = find_degradation("dcls", 2)
    assert smaller is not None
    assert smaller.kernel_size == 11
    assert find_degradation("bicubic", 8) is None
    with pytest.raises(UsageError, match="dcls was published for x2, x4, not for x3"):
        find_degradation("dcls", 3)


def test_a_file_holds_the_fields(tmp_path: Path) -> None:
    file = tmp_path / "phone.toml"
    file.write_text("sigma = [0.5, 3]\nkernel_size = 15\nnoise = [0, 10]\njpeg = [40, 90]\n")
    assert find_degradation(file, 3) == Degradation(sigma=(0.5, 3), kernel_size=15, noise=(0, 10), jpeg=(40, 90))


def test_words_are_the_settings_that_are_not_the_usual_ones() -> None:
    settings = Degradation(sigma=(0.6, 5.0), kernel_size=31, reduction="bicubic", jpeg=(40, 90))
    assert settings.words == "sigma 0.6 to 5, kernel_size 31, jpeg 40 to 90"
    assert Degradation(variance=(1, 2), reduction="subsample").words == "variance 1 to 2, reduction subsample"


def test_the_file_in_the_docs_is_one(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```toml\n(sigma.*?)^```$", docs, re.MULTILINE | re.DOTALL)
    file = tmp_path / "docs.toml"
    file.write_text(text)
    found = find_degradation(file, 4)
    assert found is not None
    keys = {line.split(" =")[0] for line in text.splitlines()}
    assert keys == {field.name for field in fields(Degradation)} - {"variance"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sigme = [1, 2]", "sets 'sigme', which is no setting"),
        ("sigma = 2", "Expected `array"),
        ("sigma = [1, 2, 3]", "length"),
        ("sigma = [2, 1]", "sigma must be two numbers from 0.1 to 63, the smaller first, not [2.0, 1.0]"),
        ("sigma = [nan, 1]", "sigma must be two numbers"),
        ("sigma = [0, 1]", "sigma must be two numbers"),
        ("sigma = [1, inf]", "sigma must be two numbers"),
        ("sigma = [1, 2]\nvariance = [1, 2]", "both say how wide"),
        ("sigma = [1, 2]\nkernel_size = 20", "kernel_size must be an odd number from 1 to 63, not 20"),
        ("kernel_size = 21.5", "Expected `int`"),
        ("sigma = [1, 2]\nisotropic = 2", "isotropic must be a share"),
        ("sigma = [1, 2]\ndisturbance = [-1, 0]", "disturbance must be"),
        ("noise = [0, 101]", "noise must be two numbers from 0 to 100"),
        ("noise = [-1, 1]", "noise must be two numbers"),
        ("jpeg = [0, 50]", "jpeg must be two numbers from 1 to 100"),
        ('reduction = "area"', "Invalid enum value 'area'"),
        ('reduction = "subsample"', "need a blur before"),
        (
            'reduction = "subsample"\nsigma = [1, 2]\nkernel_size = 15',
            "kernel_size must be at least 17 to subsample by 4",
        ),
        ('reduction = "subsample"\nsigma = [0.4, 2]', "from 0.5 to a fifth of kernel_size to subsample, not [0.4, 2"),
        ('reduction = "subsample"\nvariance = [1, 25]', "not [1.0, 5.0]"),
        ("sigma = ", "is not valid TOML"),
        ("", "sets nothing"),
        ("kernel_size = 31", "have no width"),
        ("disturbance = [0, 0.2]", "have no width"),
    ],
)
def test_what_a_file_has_wrong_is_a_sentence_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises((UsageError, InputError)) as raised:
        find_degradation(file, 4)
    assert words in raised.value.message
    assert "bad.toml" in raised.value.message
    assert raised.value.hint


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.toml", "binary.toml"):
        with pytest.raises(InputError, match=name):
            find_degradation(tmp_path / name, 4)
