from pathlib import Path

import numpy as np
import pytest
import torch

from drc_deploy.engine_info import EngineInfo
from drc_deploy.errors import MissingDependencyError, VerificationError
from drc_deploy.export.compare.agreement import Agreement, to_uint8
from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.verify import verification
from drc_deploy.export.verify.verification import Verification, verify_engine
from drc_deploy.runtime.backends.contract import Backend, Pixels
from tests.export.networks import Toy, toy_info

SO_FAR = Verification(50, (), 0, "cpu", Agreement(99, 0, 0, 0), Agreement(99, 0, 0, 0), None, note="So far.")


class ToyEngine(Backend):
    """Computes with torch what a plan of a fixed tile would, plus an error of so many grey levels."""

    info: EngineInfo = toy_info("uint8", tile=(12, 20))
    device = "toy"

    def __init__(self, network: Toy, error: int) -> None:
        self._network, self._error = pixel_network(network), error

    def run(self, batch: Pixels) -> Pixels:
        assert batch.shape == (2, 12, 20, 3)
        with torch.no_grad():
            output = self._network(torch.from_numpy(batch.astype(np.float32))).numpy()
        return to_uint8(output + self._error)

    def close(self) -> None:
        pass


def test_an_engine_that_runs_is_compared_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Toy()
    monkeypatch.setattr(verification, "open_backend", lambda plan: ToyEngine(network, error=0))
    found = verify_engine(SO_FAR, network, Path("x.plan"), "fp16")
    assert found.engine is not None
    assert found.engine.psnr_db == 200
    assert found.note == "So far."


def test_an_engine_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Toy()
    monkeypatch.setattr(verification, "open_backend", lambda plan: ToyEngine(network, error=3))
    with pytest.raises(VerificationError, match="the TensorRT engine differs"):
        verify_engine(SO_FAR, network, Path("x.plan"), "fp16")


def test_an_engine_that_cannot_run_here_is_recorded_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(plan: Path) -> Backend:
        raise MissingDependencyError(f"{plan} needs a GPU.")

    monkeypatch.setattr(verification, "open_backend", refuse)
    found = verify_engine(SO_FAR, Toy(), Path("/staging/x.plan"), "fp16")
    assert (found.engine, found.note) == (None, "So far. Not run here: x.plan needs a GPU.")
