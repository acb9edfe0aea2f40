import json
import resource
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.cli.commands.export_command import command as export_command
from drc_deploy.errors import InputError, OutputError, VerificationError
from drc_deploy.export.compare.reference import pixel_network, run_torch
from drc_deploy.export.graph.graph import simplify_graph
from drc_deploy.export.precision.calibration import (
    MOST_IMAGES,
    folder_crops,
    held_out_pairs,
    measure_limits,
    shipped_crops,
)
from drc_deploy.export.precision.int8 import candidates, choose_int8
from drc_deploy.locate import SHIPPED, sample_images
from drc_deploy.metrics import score
from drc_deploy.models.drn import DRN
from drc_deploy.models.network import ModelSpec
from drc_deploy.models.registry import build_network
from drc_deploy.runtime.backends.open import open_backend
from tests.export.networks import Toy, graph_of


class Differences(Toy):
    """A chain of layers, of which the guilty ones multiply by a small difference of large weights.

    Channels come in equal pairs: such a layer is the same as one that multiplies by 0.9, until its weights are rounded
    to one of 127 levels.
    """

    def __init__(self, guilty: tuple[int, ...]) -> None:
        super().__init__()
        self.chain = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(4)))
        pairs = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
        with torch.no_grad():
            for index, layer in enumerate(self.chain):
                layer.weight.zero_()  # type: ignore[operator]
                matrix = 100.4 * torch.eye(4) - 99.5 * pairs if index in guilty else torch.eye(4)
                layer.weight[:, :, 1, 1] = matrix  # type: ignore[operator]
            for layer in (self.head, self.inner):
                layer.weight.fill_(1 / layer.weight[0].numel())
                layer.bias.zero_()  # type: ignore[union-attr]
            self.tail.weight.fill_(0.1)

    def between(self, x: Tensor) -> Tensor:
        for layer in self.chain:
            x = torch.relu(layer(x))
        return x


@pytest.mark.parametrize("guilty", [0, 2, 3])
def test_the_one_layer_that_int8_harms_is_found_by_bisection(guilty: int) -> None:
    choice, graph, cost = choose_int8(Differences((guilty,)), "tensorrt", None)
    assert [spared.layer for spared in choice.spared] == [f"chain.{guilty}"]
    assert "largest part in an error of" in choice.spared[0].reason
    assert cost.convolutions == cost.eligible - 1
    constants = {value.name: value for value in graph.graph.initializer}
    kept = [node for node in graph.graph.node if node.op_type == "Conv" and node.input[1] in constants]
    assert f"network.chain.{guilty}.weight" in {node.input[1] for node in kept}


def test_a_network_that_int8_harms_fails_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc_deploy.export.precision.int8.MOST_SPARED", 1)
    with pytest.raises(VerificationError, match=r"needed are 40 dB.*1 of its layers are spared") as caught:
        choose_int8(Differences((0, 1, 2)), "cpu", None)
    assert "fp32" in caught.value.hint


def test_drn_offers_its_large_convolutions_and_neither_attention_nor_the_last_layer() -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    body = graph_of(network)
    simplify_graph(body)
    assert isinstance(network, DRN)
    # Those of 1x1 are attention, mean shifts, and what is folded into the convolution before a PixelShuffle.
    large = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    found = list(candidates(body).values())
    assert sorted(found) == sorted(name for name in large if not name.startswith("tail."))


@pytest.mark.slow  # two networks are calibrated
@pytest.mark.parametrize("suffix", ["", "_r30"])
def test_int8_of_a_shipped_network_loses_little(suffix: str) -> None:
    network = load_checkpoint(SHIPPED / f"drn_xs{suffix}.safetensors").build_network()
    choice, graph, cost = choose_int8(network, "cpu", None)
    options = onnxruntime.SessionOptions()
    # As the graph is written, Q/DQ around float convolutions: fused kernels overflow on x86 processors without VNNI.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    reference, losses = pixel_network(network), []
    for pair in held_out_pairs(4):
        full = np.clip(np.rint(run_torch(reference, pair.lr[None])[0]), 0, 255).astype(np.uint8)
        (raw,) = session.run(None, {"lr": pair.lr[None].astype(np.float32)})
        reduced = np.clip(np.rint(raw[0]), 0, 255).astype(np.uint8)
        losses.append(score(pair.hr, full, 4).psnr_y - score(pair.hr, reduced, 4).psnr_y)  # type: ignore[operator]
    # Against torch, by itself: what is told is what is found.
    assert cost.float32_psnr_y_db - cost.int8_psnr_y_db == pytest.approx(np.mean(losses), abs=2e-3)
    assert np.mean(losses) < 0.05
    assert cost.psnr_db > 44
    assert cost.convolutions + len(choice.spared) == cost.eligible


def test_an_export_in_int8_is_a_quarter_of_the_size_and_reports_its_loss(tmp_path: Path) -> None:
    arguments = ["drn_xs", "--workdir", str(tmp_path), "--json", "--precision"]
    for precision in ("fp32", "int8"):
        result = CliRunner().invoke(export_command, [*arguments, precision, "-o", precision])
        assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    told = report["verification"]["int8"]
    assert (report["info"]["precision"], told["form"]) == ("int8", "cpu")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * (tmp_path / "fp32.onnx").stat().st_size
    with Image.open(sample_images()[0]) as image:
        pixels = np.asarray(image.convert("RGB").reduce(5))[None, :50, :60]
    outputs = []
    for precision in ("fp32", "int8"):
        with open_backend(tmp_path / f"{precision}.onnx") as backend:
            outputs.append(backend.run(pixels).astype(float))
    assert 0.1 < np.sqrt(np.mean((outputs[0] - outputs[1]) ** 2)) < 255 / 10 ** (40 / 20)


def test_a_plan_in_int8_counts_the_convolutions_of_the_graph(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    arguments = ["drn_xs", "--workdir", str(tmp_path), "--trt", "int8", "--builder", "tensorrt_rtx", "--json"]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["verification"]["int8"]["form"] == "tensorrt"
    assert "slower there than the float32 graph" in report["verification"]["note"]
    assert report["sidecar"]["precision_requested"] == "int8"
    assert report["sidecar"]["layers_by_precision"]["int8"] >= report["verification"]["int8"]["convolutions"]


def test_a_limit_leaves_out_a_hundred_thousandth_of_the_numbers() -> None:
    identity = numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("lr", "sr")]
    node = helper.make_node("Conv", ["lr", "w"], ["sr"])
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], [identity])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = np.linspace(-100, 100, 3 * 400 * 400, dtype=np.float32).reshape(1, 3, 400, 400)
    (odd := values.copy())[0, 0, 0, :2] = 5000  # of 960,000
    limits = measure_limits(model, [values, odd])
    assert limits["sr"] == pytest.approx(100, abs=2)


def test_a_temporary_graph_that_is_cut_off_is_the_disks_fault() -> None:
    graph = graph_of(Toy())
    written = graph.ByteSize()
    limits, messages = resource.getrlimit(resource.RLIMIT_FSIZE), set()
    for most in range(written, written + 400, 10):  # the library adds shapes, and does not see that they are cut off
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            measure_limits(graph, [])
        except OutputError as error:
            messages.add(error.message.partition(": ")[2])
        except (OSError, ValueError):  # of a file that Python writes; or none was cut, and there is nothing to measure
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert messages == {"a temporary graph was cut off."}


def test_what_is_measured_is_not_what_was_calibrated_on() -> None:
    """Every row of a photograph, reduced, is in its upper or its lower half, never in both."""
    for index, pair in enumerate(held_out_pairs(4)):
        for crop in shipped_crops(4)[2 * index : 2 * index + 2]:
            rows = {row.tobytes() for row in crop[0][:, :16]}
            windows = {pair.lr[y, x : x + 16].tobytes() for y in range(len(pair.lr)) for x in range(pair.lr.shape[1])}
            assert not rows & windows
        assert pair.hr.shape[:2] == (4 * pair.lr.shape[0], 4 * pair.lr.shape[1])


def _save(folder: Path, count: int) -> None:
    for index in range(count):
        Image.fromarray(np.full((3, 100, 3), index, np.uint8)).save(folder / f"{index:03}.png")


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (5, 5), (100, MOST_IMAGES)])
def test_a_folder_of_images_is_taken_evenly(tmp_path: Path, count: int, taken: int) -> None:
    _save(tmp_path, count)
    crops = folder_crops(tmp_path)
    assert {crop.shape for crop in crops} == {(1, 3, 64, 3)}
    levels = [int(crop[0, 0, 0, 0]) for crop in crops]
    assert len(levels) == len(set(levels)) == taken
    assert np.diff([*levels, count]).max() - np.diff([*levels, count]).min() <= 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    for folder, words in ((tmp_path, "holds no images"), (tmp_path / "nowhere", "there is no folder")):
        with pytest.raises(InputError, match=words):
            folder_crops(folder)


def test_images_without_any_range_fail_at_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drc_deploy.export.precision.int8.MOST_SPARED", 0)  # none would help, and each takes a search
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "black.png")
    arguments = ["drn_xs", "--precision", "int8", "--calibrate", str(tmp_path), "--workdir", str(tmp_path / "out")]
    result = CliRunner().invoke(export_command, arguments)
    assert isinstance(result.exception, VerificationError)
    assert "--calibrate FOLDER" in result.exception.hint
    assert not (tmp_path / "out").exists()
