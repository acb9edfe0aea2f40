from pathlib import Path

import numpy as np
import pytest

from drc_deploy.errors import ArtefactError
from drc_deploy.runtime.backend import open_backend
from drc_deploy.runtime.upscaler import Upscaler

torch = pytest.importorskip("torch")

from drc_deploy.checkpoint import Checkpoint, save_checkpoint  # noqa: E402 (they need torch)
from drc_deploy.models.network import ModelSpec  # noqa: E402
from drc_deploy.models.registry import build_network  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "drn_xs.safetensors"
    save_checkpoint(path, Checkpoint.of(build_network(ModelSpec("drn_xs", 4))))
    return path


def test_a_checkpoint_runs_as_the_network_that_it_holds(checkpoint: Path) -> None:
    from drc_deploy.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint).build_network()
    batch = np.random.default_rng(0).uniform(0, 255, (1, 9, 12, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = network.upscale(torch.from_numpy(batch).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    with open_backend(checkpoint) as backend:
        assert np.allclose(backend.run(batch), expected, atol=0.01)
        assert (backend.info.model, backend.info.scale, backend.info.io_dtype) == ("drn_xs", 4, "float32")
        assert backend.device.startswith("torch ")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_checkpoint_takes_8_and_16_bits_itself(checkpoint: Path, dtype: type[np.generic]) -> None:
    with Upscaler.open(checkpoint) as upscaler:
        result = upscaler(np.full((5, 4), 77, dtype))
    assert result.shape == (20, 16)
    assert result.dtype == dtype


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtefactError):
        open_backend(tmp_path / "x.safetensors")
