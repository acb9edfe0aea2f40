"""Names that no file system takes are names of nothing, not faults."""

from pathlib import Path

import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.locate import find_checkpoint, find_engine, find_file, find_trained_checkpoint


@pytest.mark.parametrize("reference", ["", ".", "~nobody-of-that-name/x", "\0", "a" * 5000])
def test_an_impossible_name_is_not_found(reference: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"there is no file|^\. is a folder"):
        find_checkpoint(reference, tmp_path)


def test_a_torch_file_learns_how_to_be_imported_and_not_how_to_be_trained(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(ArtefactError) as caught:
        find_trained_checkpoint("net.pt", tmp_path)
    assert "drc-deploy import" in caught.value.hint
    assert "drc-deploy train" not in caught.value.hint


def test_a_bare_name_means_the_same_file_to_every_command(tmp_path: Path) -> None:
    made = [tmp_path / f"net.v2{suffix}" for suffix in (".widths.json", ".plan", ".onnx", ".safetensors")]
    made[0].write_bytes(b"")
    assert find_file("net.v2", tmp_path) == made[0]
    for path in made[1:]:  # the last one that was made comes before the others
        path.write_bytes(b"")
        assert find_engine("net.v2", tmp_path) == find_file("net.v2", tmp_path) == path


def test_widths_of_a_shipped_name_hide_no_network(tmp_path: Path) -> None:
    (tmp_path / "drn_xs_r30.widths.json").write_bytes(b"")
    assert find_file("drn_xs_r30", tmp_path) == find_engine("drn_xs_r30", tmp_path)
