from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.errors import UsageError
from drc_deploy.runtime.remote.url import Url, is_url, place_of


def url(name: str) -> Url:
    place = place_of(name)
    assert isinstance(place, Url)
    return place


@pytest.mark.parametrize("name", ["a.png", "-", "C:/photos", "a:b", "folder/s3:/b.png", "", "://x", "1x://b"])
def test_names_of_files_stay_paths(name: str) -> None:
    assert place_of(name) == Path(name)
    assert not is_url(name)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("file:///x/a.png", "/x/a.png"),
        ("file://localhost/x/a.png", "/x/a.png"),
        ("FILE:///x/a%20b.png", "/x/a b.png"),
        ("file:///x/100%.png", "/x/100%.png"),
        ("local:///x/*.png", "/x/*.png"),
    ],
)
def test_a_file_of_this_machine_is_a_path(name: str, path: str) -> None:
    assert place_of(name) == Path(path)


@pytest.mark.parametrize(
    ("name", "shown", "last"),
    [
        ("s3://bucket/in/a.png", "s3://bucket/in/a.png", "a.png"),
        ("s3a://bucket/in/", "s3://bucket/in", "in"),
        ("gcs://bucket", "gs://bucket", ""),
        ("memory://a.png", "memory://a.png", "a.png"),
        ("https://host/a%20b.png?X-Amz-Signature=s3cret#top", "https://host/a%20b.png?...", "a b.png"),
        ("https://host/..%2F..%2Fa.png", "https://host/..%2F..%2Fa.png", "a.png"),
        ("https://host/a%00.png", "https://host/a%00.png", "a%00.png"),
        ("https://host/folder/", "https://host/folder/", ""),
        ("http://host:8080/img@2x.png", "http://host:8080/img@2x.png", "img@2x.png"),
        ("http://[::1]:80/a.png".replace("::", "1:2"), "http://[1:21]:80/a.png", "a.png"),
        ("s3://arn:aws:s3:eu:1:accesspoint/x/a@2x.png", "s3://arn:aws:s3:eu:1:accesspoint/x/a@2x.png", "a@2x.png"),
    ],
)
def test_a_url_is_shown_without_its_query(name: str, shown: str, last: str) -> None:
    assert (str(url(name)), url(name).name) == (shown, last)
    assert "s3cret" not in repr(url(name))


def test_storage_is_asked_for_the_whole() -> None:
    name = "https://host/a%20b.png?X-Amz-Signature=a%2Fb&c=d"
    assert url(name).full == name


SECRETS = [
    "https://user:s3cret@host/a.png",
    "https://s3cret@host/a.png",
    "http://user:s3cret/more@host/a.png",
    "s3://AKIA:s3cret@bucket/a.png",
    "s3://AKIA:s3cret/more@bucket/a.png",
    "s3://s3cret@bucket/a.png",
    "gs://AKIA:1/s3cret@bucket/a.png",
    "sftp://user:s3cret@host/a.png",
    "simplecache::s3://user:s3cret@bucket/a.png",
    "zip://a.zip::https://user:s3cret@host/x",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_password_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(UsageError) as error:
        place_of(name)
    assert "s3cret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "az://c/a.png?sv=2021-01-01&sig=s3cret",
        "s3://b/a.png?X-Amz-Signature=s3cret",
        "gs://b/?sig=s3cret",
        "s3://b/*.png?%73ig=s3cret",
        "sftp://host/a?b?sig=s3cret",
    ],
)
def test_a_query_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(UsageError, match="query") as error:
        place_of(name)
    assert "s3cret" not in error.value.message + error.value.hint


@pytest.mark.parametrize("name", ["s3://b/a?.png", "s3://b/???/day=1/*.png", "s3://b/?=1.png", "s3://b/a?/b=c.png"])
def test_a_question_mark_of_a_pattern_stays(name: str) -> None:
    assert url(name).full == name


@pytest.mark.parametrize("name", ["s3://", "https:///a.png", "file://host/a.png", "s3://b/a::b.png", "s3://b/.."])
def test_a_url_that_cannot_be_meant_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        place_of(name)


def test_results_lie_next_to_sources_and_below_folders() -> None:
    source = url("s3://bucket/in/a.png")
    assert str(source.with_name("b.png")) == "s3://bucket/in/b.png"
    assert str(source.with_stem("b")) == "s3://bucket/in/b.png"
    assert str(url("s3://bucket") / "a" / PurePosixPath("b/c.png")) == "s3://bucket/a/b/c.png"
    assert [str(folder) for folder in source.parents] == ["s3://bucket/in", "s3://bucket"]
    assert str(source.parent) == "s3://bucket/in"


@given(st.text(st.sampled_from("ab./~ "), max_size=12))
def test_no_key_has_a_name_that_is_absolute(below: str) -> None:
    folder = url("s3://bucket/in")
    assert not Url("s3", f"bucket/in/{below}").relative_to(folder).is_absolute()
