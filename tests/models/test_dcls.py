"""DCLS against its published sizes, and its mathematics against other ways to compute the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drc_deploy.export.compare.reference import pixel_network
from drc_deploy.export.graph.graph import trace_graph
from drc_deploy.models.dcls import DCLS, DCLSConfig, DualPathGroup, MeanOfParts, ResidualBlock, chained, deconvolved
from drc_deploy.models.network import ModelSpec, multiply_adds
from drc_deploy.models.registry import build_network
from drc_deploy.official import import_official
from drc_deploy.train.loop.kernel_loss import LastKernel, kernel_loss

PUBLISHED_WIDTHS = (
    *(20, 40, 44), 180, *(44,) * 3, *(44,) * 10,
    *(20, 40, 44, 44, 44, 44, 44, 20, 44, 44), *(44, 44, 44, 44, 44, 36, 44, 44, 44, 44), *(44,) * 20,
)  # fmt: skip
"""Those that the authors of DRC published for DCLS, 30 % removed."""
SMALL = DCLSConfig((5, 3, 1), features=16, groups=2, blocks=2, latent=24, hidden=8)


def small_dcls(config: DCLSConfig = SMALL, seed: int = 3) -> DCLS:
    torch.manual_seed(seed)
    return DCLS(ModelSpec("dcls_small", 4), config).eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = build_network(ModelSpec("dcls", 4))
        pruned = build_network(ModelSpec("dcls", 4, PUBLISHED_WIDTHS))
    assert isinstance(network, DCLS)
    duals = network.build_duals()
    assert (parameters(network.Estimator), parameters(network.Restorer)) == (12_122_976, 6_931_051)
    assert (parameters(duals), network.parameter_count + parameters(duals)) == (3_168, 19_057_195)
    assert len(network.state_dict()) + len(duals.state_dict()) == 969
    assert round(multiply_adds(network) / 1e9, 3) == 69.923
    assert (pruned.parameter_count, round(multiply_adds(pruned) / 1e9, 3)) == (14_166_343, 57.084)


def test_names_are_those_of_the_published_files() -> None:
    with torch.device("meta"):
        names = set(build_network(ModelSpec("dcls", 4)).state_dict())
    for name in (
        "Estimator.head.0", "Estimator.body.0.2.conv2", "Estimator.tail.0", "Estimator.tail.4", "Estimator.dec.4",
        "Restorer.conv_first", "Restorer.feature_block.2.conv1", "Restorer.head1", "Restorer.head2.reduce_feature",
        "Restorer.head2.grad_filter.6", "Restorer.head2.expand_feature", "Restorer.body.4.body.9.body1.2",
        "Restorer.body.4.body.9.body2.0", "Restorer.body.0.body.0.CA_body1.1",
        "Restorer.body.0.body.0.CA_body1.2.conv_du.2", "Restorer.body.0.body.0.CA_body2.conv_du.0", "Restorer.fusion",
        "Restorer.upscale.4",
    ):  # fmt: skip
        assert {f"{name}.weight", f"{name}.bias"} <= names


def test_a_published_file_is_imported_with_its_dual_pruned_or_not(tmp_path: Path) -> None:
    full = build_network(ModelSpec("dcls_xs", 4))
    for widths in (None, tuple(width // 2 for width in full.widths)):
        network = build_network(ModelSpec("dcls_xs", 4, widths))
        (dual,) = network.build_duals()
        names = {"0.weight": "0.0.weight", "2.weight": "1.0.weight", "4.weight": "2.weight"}
        state = dict(network.state_dict())
        state |= {f"dual_model.dual_module.{names[name]}": value for name, value in dual.state_dict().items()}
        torch.save(state, tmp_path / "authors.pth")
        checkpoint = import_official(tmp_path / "authors.pth", "dcls_xs", 4)
        assert checkpoint.spec.widths == network.widths
        image = torch.rand(1, 3, 9, 11) * 255
        with torch.no_grad():
            assert torch.equal(checkpoint.build_network().eval().upscale(image), network.eval().upscale(image))
            assert torch.equal(checkpoint.build_duals()[0](image), dual(image))


def test_the_chain_of_filters_is_what_convolutions_make_of_a_point() -> None:
    """As the published code computes it: correlations of a point in every channel, with one group for each image."""
    torch.manual_seed(1)
    batch, sides, channels = 3, (11, 9, 7, 5, 3), (3, 16, 16, 16, 16, 3)
    filters = [
        torch.randn(batch, made, read, side, side) / (read * side**2) ** 0.5
        for side, read, made in zip(sides, channels[:-1], channels[1:], strict=True)
    ]
    x = torch.ones(1, 3 * batch, 1, 1)
    for number, each in enumerate(filters):
        x = F.conv2d(x, each.flatten(0, 1), padding=0 if number else 30, groups=batch)
    expected = x.view(batch, 3, 31, 31).flip((2, 3)).mean(dim=1, keepdim=True)
    assert (chained(filters, 31) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_deconvolution_is_the_least_squares_solution_of_each_channel() -> None:
    """By whole complex transforms in float64, one channel at a time."""
    random = np.random.default_rng(1)
    features, smoothing = random.normal(size=(2, 3, 9, 12)), random.normal(size=(2, 3, 3, 3))
    kernel = random.random((2, 1, 5, 5))
    kernel /= kernel.sum(axis=(2, 3), keepdims=True)
    given = (torch.from_numpy(array).float() for array in (features, kernel, smoothing))
    result = deconvolved(*given).numpy()
    for n in range(2):
        for c in range(3):
            padded = np.pad(features[n, c], 5, mode="edge")
            blur, smooth = np.zeros_like(padded), np.zeros_like(padded)
            for array, weights, half in ((blur, kernel[n, 0], 2), (smooth, smoothing[n, c], 1)):
                for (row, column), weight in np.ndenumerate(weights):
                    array[row - half, column - half] = weight
            of_blur, of_smooth, of_image = map(np.fft.fft2, (blur, smooth, padded))
            # The normal equations of |blur * x - image|^2 + |smooth * x|^2.
            x = np.fft.ifft2(np.conj(of_blur) * of_image / (abs(of_blur) ** 2 + abs(of_smooth) ** 2)).real
            assert np.allclose(result[n, c], x[5:-5, 5:-5], atol=1e-4)


def test_without_smoothing_a_blur_is_undone() -> None:
    """Of an image that is flat near its border, so that its continuation does not matter."""
    image = torch.zeros(1, 1, 24, 24)
    image[..., 8:16, 8:16] = torch.rand(8, 8)
    line = torch.tensor([0.1, 0.8, 0.1])
    kernel = (line[:, None] * line).view(1, 1, 3, 3)
    blurred = F.conv2d(image, kernel, padding=1)
    assert torch.allclose(deconvolved(blurred, kernel, torch.zeros(1, 1, 3, 3)), image, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 2), (3, 4), (7, 9), (11, 10)])
def test_means_of_parts_are_those_of_torch(height: int, width: int) -> None:
    x = torch.rand(2, 3, height, width)
    assert torch.allclose(MeanOfParts(3)(x), F.adaptive_avg_pool2d(x, 3), atol=1e-6)


def test_a_group_doubles_what_its_blocks_make() -> None:
    group = DualPathGroup(SMALL, iter([16, 16])).eval()
    sharp, blurry = torch.rand(1, 16, 6, 6), torch.rand(1, 4, 6, 6)
    with torch.no_grad():
        made = group(sharp, blurry)
        for block in group.body:
            sharp, blurry = block(sharp, blurry)
    assert torch.equal(made[0], 2 * sharp)
    assert torch.equal(made[1], 2 * blurry)


def test_the_image_teaches_the_restorer_and_the_kernel_teaches_the_estimator() -> None:
    network = small_dcls()
    lr, hr = torch.rand(2, 3, 16, 16) * 255, torch.rand(2, 3, 64, 64) * 255
    with LastKernel(network) as kernels:
        (image,) = network(lr)
    image.mean().backward()
    assert not any(p.grad is not None for p in network.Estimator.parameters())
    assert all(p.grad is not None for p in network.Restorer.parameters())
    network.zero_grad(set_to_none=True)
    kernel = kernels.take()
    assert kernel is not None
    kernel_loss(kernel, lr, hr).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in network.Estimator.parameters())
    assert not any(p.grad is not None for p in network.Restorer.parameters())


def test_kernels_of_new_weights_are_tame() -> None:
    """Where weights cancel out, a division by their sum would make kernels, and gradients, a million times larger."""
    images = torch.rand(4, 3, 16, 16)
    for seed in range(12):
        with torch.no_grad():
            kernel = small_dcls(seed=seed).Estimator(images)
        assert float(kernel.abs().sum(dim=(2, 3)).min()) > 0.99
        assert float(kernel.abs().sum(dim=(2, 3)).max()) < 10.1


def test_kernels_of_positive_weights_sum_to_one() -> None:
    network = small_dcls()
    with torch.no_grad():
        for decoder in network.Estimator.dec:
            assert isinstance(decoder, nn.Linear)
            decoder.weight.zero_()
            decoder.bias.uniform_(0.1, 1)
        kernel = network.Estimator(torch.rand(2, 3, 9, 9))
    assert torch.allclose(kernel.sum(dim=(2, 3)), torch.ones(2, 1), atol=1e-5)


def test_residual_blocks_begin_near_the_identity() -> None:
    blocks = [
        module for module in build_network(ModelSpec("dcls_xs", 4)).modules() if isinstance(module, ResidualBlock)
    ]
    assert len(blocks) == 6
    x = torch.rand(1, 32, 8, 8)
    assert all(float((block(x) - x).abs().mean().detach()) < 0.1 for block in blocks)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_of_every_scale_and_least_size(scale: int) -> None:
    network = build_network(ModelSpec("dcls_xs", scale)).eval()
    with torch.no_grad(), LastKernel(network) as kernels:
        assert network.upscale(torch.rand(2, 3, 8, 9) * 255).shape == (2, 3, 8 * scale, 9 * scale)
    kernel = kernels.take()
    assert kernel is not None
    assert kernel.shape == (2, 1, *((11, 21, 31)[scale - 2],) * 2)
    assert float(kernel.sum(dim=(2, 3)).max()) <= 1 + 1e-4
    assert (network.minimum, network.taken_side(3)) == (8, 8)


def test_flat_images_have_finite_results() -> None:
    network = small_dcls()
    with torch.no_grad():
        for grey in (0.0, 128.0, 255.0):
            flat = torch.full((1, 3, 16, 16), grey)
            assert torch.isfinite(network.upscale(flat)).all()
            assert float(network.Estimator(flat / 255).sum()) <= 1 + 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_division_is_float32_whatever_the_body_has(dtype: torch.dtype) -> None:
    network, seen = small_dcls(), []
    lr = torch.rand(1, 3, 16, 16) * 255
    with torch.no_grad():
        exact = network.upscale(lr)
        network.cast_body(dtype)
        network.Restorer.head2.expand_feature.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        with LastKernel(network) as kernels:
            halved = network.upscale(lr)
    kernel: Tensor | None = kernels.take()
    assert kernel is not None
    assert (kernel.dtype, seen[0].dtype, halved.dtype) == (torch.float32, dtype, torch.float32)
    assert 0 < float((halved - exact).abs().max()) < 0.1 * float(exact.max() - exact.min())


@pytest.mark.parametrize("tile", [None, (19, 24)])
def test_an_exported_graph_computes_what_torch_does(tile: tuple[int, int] | None) -> None:
    """At sizes and batches that were not traced; transforms are products of matrices there."""
    network = small_dcls(replace(SMALL, groups=1, blocks=1))
    graph = trace_graph(pixel_network(network), tile=tile)
    assert not {"DFT", "STFT"} & {node.op_type for node in graph.graph.node}
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    random = np.random.default_rng(0)
    for shape in ((1, 8, 31, 3), (3, 17, 12, 3), (1, 40, 9, 3)) if tile is None else ((1, *tile, 3),):
        pixels = random.uniform(0, 255, shape).astype(np.float32)
        got, kernel = session.run(None, {session.get_inputs()[0].name: pixels})
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = network.upscale(planes).permute(0, 2, 3, 1).numpy()
            np.testing.assert_allclose(kernel, network.estimate(planes).numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.ptp(expected))
