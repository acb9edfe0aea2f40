"""DRN against the numbers that its authors published, and against its own contract."""

import pytest
import torch

from drc_deploy.errors import UsageError
from drc_deploy.models.network import ModelSpec, SRNetwork, multiply_adds
from drc_deploy.models.registry import MODELS, build_network
from tests.models.published import WIDTHS


def build_on_meta(name: str, scale: int, widths: tuple[int, ...] | None = None) -> SRNetwork:
    with torch.device("meta"):
        return build_network(ModelSpec(name, scale, widths))


@pytest.mark.parametrize(
    ("name", "scale", "params", "giga_madds", "tensors"),
    [
        ("drn_s", 4, 4_804_065, 109.923, 504),
        ("drn_l", 4, 9_825_893, 224.764, 664),
        ("drn_s", 8, 5_403_000, 197.943, 752),
        ("drn_l", 8, 10_004_018, 366.380, 896),
    ],
)
def test_full_networks_have_the_published_size(
    name: str, scale: int, params: int, giga_madds: float, tensors: int
) -> None:
    network = build_on_meta(name, scale)
    assert network.parameter_count == params
    assert len(network.state_dict()) == tensors
    assert round(multiply_adds(network) / 1e9, 3) == giga_madds


@pytest.mark.parametrize(
    ("scale", "ratio", "params", "giga_madds"),
    [
        (4, 30, 3_116_637, 72.197),
        (4, 50, 2_267_417, 53.016),
        (4, 70, 1_427_545, 32.746),
        (8, 30, 3_490_832, 123.833),
        (8, 50, 2_548_420, 94.243),
        (8, 70, 1_572_288, 53.342),
    ],
)
def test_published_widths_give_the_published_size(scale: int, ratio: int, params: int, giga_madds: float) -> None:
    network = build_on_meta("drn_s", scale, WIDTHS[scale, ratio])
    assert network.parameter_count == params
    assert round(multiply_adds(network) / 1e9, 3) == giga_madds
    assert network.widths == WIDTHS[scale, ratio]


@pytest.mark.parametrize(("name", "scale"), [(n, s) for n in ("drn_xs", "drn_s", "drn_l") for s in MODELS[n].builders])
def test_outputs_and_duals_step_through_every_power_of_two(name: str, scale: int) -> None:
    network = build_on_meta(name, scale)
    outputs = network(torch.empty(2, 3, 6, 5, device="meta"))
    assert [o.shape for o in outputs] == [(2, 3, 6 * k, 5 * k) for k in (1, 2, 4, 8) if k <= scale]
    duals = network.build_duals()
    for dual, fine, coarse in zip(duals, outputs[1:], outputs[:-1], strict=True):
        assert dual.to("meta")(fine).shape == coarse.shape


@pytest.mark.parametrize(("name", "scale", "count"), [("drn_s", 4, 864), ("drn_l", 8, 540)])
def test_duals_have_the_published_size(name: str, scale: int, count: int) -> None:
    for dual in build_on_meta(name, scale).build_duals():
        assert sum(p.numel() for p in dual.parameters()) == count


def test_upscale_is_the_last_of_all_outputs() -> None:
    network = build_network(ModelSpec("drn_xs", 4)).eval()
    lr = torch.rand(1, 3, 7, 9) * 255
    assert torch.equal(network.upscale(lr), network(lr)[-1])


def test_mean_shift_is_frozen_and_undone() -> None:
    network = build_network(ModelSpec("drn_xs", 4))
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ["sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"]
    image = torch.rand(1, 3, 4, 4) * 255
    shifted = network.get_submodule("add_mean")(network.get_submodule("sub_mean")(image))
    torch.testing.assert_close(shifted, image)


def test_pixels_beyond_the_receptive_field_do_not_matter_without_attention() -> None:
    """The receptive field is where gradients reach, once attention is taken out."""
    network = build_network(ModelSpec("drn_xs", 4)).eval()
    for name, module in network.named_modules():
        if name.endswith("conv_du"):
            module.register_forward_hook(lambda _m, _i, output: torch.full_like(output, 0.5))
    side = 2 * network.receptive_field + 9
    lr = (torch.rand(1, 3, side, side) * 255).requires_grad_()
    centre = side // 2
    network.upscale(lr)[..., 4 * centre : 4 * centre + 4, 4 * centre : 4 * centre + 4].sum().backward()  # type: ignore[no-untyped-call]
    assert lr.grad is not None
    reached = lr.grad.abs().amax(dim=(0, 1)).nonzero() - centre
    reach = int(reached.abs().max())
    assert network.receptive_field - 1 <= reach <= network.receptive_field


def test_halved_body_keeps_the_borders_in_float32() -> None:
    network = build_network(ModelSpec("drn_xs", 4)).eval()
    lr = torch.rand(1, 3, 12, 12) * 255
    with torch.no_grad():
        exact = network.upscale(lr)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.cast_body(torch.float16)
        halved = network.upscale(lr)
    for name, value in network.state_dict().items():
        expected = before[name] if name.startswith(network.float32_modules) else before[name].half()
        assert torch.equal(value, expected)
    assert halved.dtype == torch.float32
    assert network.convolution("tail.2").weight.dtype == torch.float32
    assert network.convolution("head").weight.dtype == torch.float16
    assert 0 < (halved - exact).abs().max() < 1.0


def test_unknown_names_suggest_a_known_one() -> None:
    with pytest.raises(UsageError, match="no model 'drn_z'") as caught:
        build_network(ModelSpec("drn_z", 4))
    assert "drn_" in caught.value.hint
    with pytest.raises(UsageError, match="no scale 3"):
        build_network(ModelSpec("drn_s", 3))


@pytest.mark.parametrize("widths", [(1,) * 11, (0,) + (1,) * 11, (9,) + (1,) * 11])
def test_impossible_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        build_network(ModelSpec("drn_xs", 4, widths))
