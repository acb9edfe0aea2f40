"""Networks of other programs as checkpoints: ``drc-deploy import`` without ``--model``."""

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from drc_deploy.checkpoint import Checkpoint, check_weights, read_unchecked, to_plain_weights
from drc_deploy.checkpoint_info import ForeignSpec
from drc_deploy.errors import ArtefactError, DrcDeployError, UsageError
from drc_deploy.files import sha256_of
from drc_deploy.interruption import leave_signals_to_parent, start_child
from drc_deploy.models import own_code, zoo
from drc_deploy.models.foreign import ForeignNetwork, prepare, trained_buffers
from drc_deploy.models.network import ModelSpec, SRNetwork
from drc_deploy.models.prunable import find_prunable
from drc_deploy.models.reach import measure_reach
from drc_deploy.official import split_duals
from drc_deploy.progress import progress
from drc_deploy.state_dict_file import read_state_dict

TRIAL_S = 600.0
"""Code of one's own that has not answered by then is given up."""
TRIAL_PX = 64
LARGEST_ERROR = 32.0
"""Mean difference to bicubic upscaling, in grey levels; networks for another range or order of colours have more."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A network before its reach is known."""

    net: nn.Module
    """With the weights, over images of ``value_range``."""
    fresh: Callable[[], nn.Module]
    name: str
    spec: ForeignSpec
    scale: int


class _Finest(nn.Module):
    """A network that returns one image instead of a list."""

    def __init__(self, network: SRNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, scale*H, scale*W), both in [0, 255]."""
        return self.network.upscale(lr)


def import_foreign(weights: Path, network: str | None, settings: Mapping[str, Any]) -> Checkpoint:
    """Read the weights of a network that this program does not have itself.

    Args:
        weights: A torch or safetensors file with its state dict.
        network: ``FILE.py:NAME`` or ``package.module:NAME`` of code of one's own, which is run; None: spandrel is
            asked what the tensors are.
        settings: Keyword arguments of that code.

    Raises:
        ArtefactError: the file cannot be used, or its tensors are of no known network.
        MissingDependencyError: spandrel is needed and not installed.
        UsageError: the code fails, or what it builds upscales no image.
    """
    state = read_state_dict(weights)
    state, duals = split_duals(state)
    if not state:
        raise ArtefactError(f"{weights} holds a dual network only.", "Give the file of the network itself.")
    found = _own(state, network, settings, weights) if network else _of_zoo(state, weights)
    with torch.no_grad():
        kept = trained_buffers(prepare(found.net), prepare(found.fresh()))
    foreign = dataclasses.replace(found.spec, kept_buffers=kept)
    net = prepare(found.net, kept)
    checkpoint = Checkpoint(
        spec=ModelSpec(found.name, found.scale, (), foreign),
        weights=to_plain_weights({f"net.{name}": tensor for name, tensor in net.state_dict().items()}, str(weights)),
        dual_weights=to_plain_weights(duals, str(weights)),
        provenance={"stage": "import", "file": weights.name, "sha256": sha256_of(weights), "source": foreign.source},
        dual_design="single",
    )
    check_weights(checkpoint, str(weights))
    with progress("Measuring sizes and reach", 1) as bar:
        reach = measure_reach(_Finest(checkpoint.build_network()), found.scale)
        bar.advance()
    measured = dataclasses.replace(foreign, **dataclasses.asdict(reach))
    checkpoint = dataclasses.replace(checkpoint, spec=dataclasses.replace(checkpoint.spec, foreign=measured))
    return _with_layers(checkpoint, measured)


def with_code_at(path: Path, network: str, settings: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint, pruned or not, whose network is code of one's own that lies elsewhere by now.

    Args:
        path: The checkpoint.
        network: Where the code is, as for ``import_foreign``. It must be the same to the byte.
        settings: Keyword arguments of that code. The file names them too, but nothing that a file says alone is run.

    Raises:
        ArtefactError: the file cannot be used.
        UsageError: it has no such code, other code, or other arguments.
    """
    code = own_code.find_code(network)
    _, info, checkpoint = read_unchecked(path)
    foreign = info.foreign
    if foreign is None or foreign.code_sha256 is None:
        raise UsageError(f"{path} is a checkpoint already, and needs no code of yours.", "Use it as it is.")
    if (code.sha256, code.name) != (foreign.code_sha256, foreign.target.rpartition(":")[2]):
        raise UsageError(
            f"{code.source} is not the code that {path} was made with, {foreign.source}.",
            "Give that code, unchanged, at its new place; or import the original weights again.",
        )
    given, wanted = (json.dumps(arguments, sort_keys=True) for arguments in (settings, foreign.settings))
    if given != wanted:  # as text: 1 is true in Python
        raise UsageError(
            f"{path} was made with other arguments of {code.name}.",
            f"Give --kwargs {quote(wanted)}, if you trust them.",
        )
    _trust(code, settings)
    foreign = dataclasses.replace(foreign, source=code.source, target=code.target)
    checkpoint = dataclasses.replace(checkpoint, spec=dataclasses.replace(checkpoint.spec, foreign=foreign))
    check_weights(checkpoint, str(path))
    return checkpoint


def _with_layers(checkpoint: Checkpoint, foreign: ForeignSpec) -> Checkpoint:
    """Return the checkpoint with what can be cut in it."""
    network = checkpoint.build_network()
    assert isinstance(network, ForeignNetwork)
    with progress("Finding what can be cut", 1) as bar:
        found = find_prunable(network)
        bar.advance()
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    widths = tuple(layer.full_width for layer in found.layers)
    spec = dataclasses.replace(checkpoint.spec, widths=widths, foreign=dataclasses.replace(foreign, **values))
    return dataclasses.replace(checkpoint, spec=spec)


def _of_zoo(state: Mapping[str, Tensor], weights: Path) -> _Found:
    found = zoo.recognise(state, str(weights))
    spec = ForeignSpec(found.source, found.target, found.settings, None, found.channels, 1.0, (), 1, 1, 0, False)
    name = found.source.removeprefix(zoo.SOURCE_PREFIX).lower()
    return _Found(found.network, lambda: zoo.build(found.target, found.settings), name, spec, found.scale)


def _own(state: Mapping[str, Tensor], network: str, settings: Mapping[str, Any], weights: Path) -> _Found:
    code = own_code.find_code(network)
    channels, value_range, scale = _trial(code, settings, weights)
    _trust(code, settings)
    net = own_code.build(code, settings).eval()
    _load(net, state, weights)
    spec = ForeignSpec(code.source, code.target, dict(settings), code.sha256, channels, value_range, (), 1, 1, 0, False)
    return _Found(net, lambda: own_code.build(code, settings), code.name.lower(), spec, scale)


def _trust(code: own_code.OwnCode, settings: Mapping[str, Any]) -> None:
    try:
        own_code.trust(code, settings)
    except OSError as error:
        raise UsageError(f"cannot note that {code.source} is yours: {error}.", "Set XDG_DATA_HOME.") from error


def _load(net: nn.Module, state: Mapping[str, Tensor], weights: Path) -> None:
    try:
        net.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = shorten(str(error), 300, placeholder=" ...")
        raise ArtefactError(f"{weights} is not of that network: {reason}.", "Check --network and --kwargs.") from error


def _trial(code: own_code.OwnCode, settings: Mapping[str, Any], weights: Path) -> tuple[Any, float, int]:
    """Try code of one's own in a process, which it may crash or never leave: channels, value range and scale."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_try_in_child, args=(theirs, code, dict(settings), weights), daemon=True)
    try:
        with theirs:
            start_child(process)
        if not ours.poll(TRIAL_S):
            raise UsageError(f"{code.source} did not answer within {TRIAL_S:.0f} s.", "Check that it ends.")
        facts, failure = ours.recv()
    except EOFError as error:
        raise UsageError(f"{code.source} ended its process.", "Run it in Python to see why.") from error
    finally:
        if process.pid is not None:
            process.kill()
            process.join()
    if failure is not None:
        raise failure
    channels, value_range, scale = facts
    return channels, value_range, scale


def _try_in_child(connection: Connection, code: own_code.OwnCode, settings: Mapping[str, Any], weights: Path) -> None:
    leave_signals_to_parent()
    os.dup2(2, 1)  # what the code prints is none of the command's result
    try:
        net = own_code.build(code, settings).eval()
        _load(net, read_state_dict(weights), weights)
        connection.send((_signature(net, code.source), None))
    except DrcDeployError as error:
        connection.send((None, error))


def _signature(net: nn.Module, source: str) -> tuple[int, float, int]:
    """Find the channels, the value range and the scale of a network by running it on a photograph."""
    from drc_deploy.images.reading import read_rgb
    from drc_deploy.images.resize import resize_bicubic
    from drc_deploy.locate import sample_images

    photograph = read_rgb(sample_images()[0])[:TRIAL_PX, :TRIAL_PX]
    lr = torch.tensor(photograph).permute(2, 0, 1)[None].float()
    channels = 3
    sr, fault = _run(net, lr / 255)
    if fault:  # perhaps a network for grey images; else the first fault is the one to report
        grey, grey_fault = _run(net, lr[:, :1] / 255)
        channels, sr, fault = (3, sr, fault) if grey_fault else (1, grey, "")
    scale, rest = divmod(sr.shape[-1], TRIAL_PX)
    if fault or rest or sr.shape != (1, channels, scale * TRIAL_PX, scale * TRIAL_PX):
        shape = "" if fault else f"gives {tuple(sr.shape)} for (1, {channels}, {TRIAL_PX}, {TRIAL_PX})"
        raise UsageError(
            f"{source} {fault or shape}.", "It must map (N, C, H, W) to (N, C, scale*H, scale*W), C being 3 or 1."
        )
    expected = torch.tensor(resize_bicubic(photograph, scale * TRIAL_PX, scale * TRIAL_PX)).permute(2, 0, 1)[None]
    return channels, _value_range(net, lr[:, :channels], expected[:, :channels], source), scale


def _value_range(net: nn.Module, lr: Tensor, expected: Tensor, source: str) -> float:
    """Return the value of white for which the output is closest to what is ``expected``, both in [0, 255]."""
    errors = {}
    for value_range in (1.0, 255.0):
        image, _ = _run(net, lr * (value_range / 255))
        errors[value_range] = float(((image * (255 / value_range)).clamp(0, 255) - expected).abs().mean())
    value_range = min(errors, key=lambda each: errors[each])
    if not errors[value_range] <= LARGEST_ERROR:
        raise UsageError(
            f"{source} gives no enlarged photograph for RGB in 0..1 or 0..255: it is {errors[value_range]:.0f} grey "
            "levels off on average.",
            "Wrap it so that it takes and gives such images, and check the weights.",
        )
    return value_range


def _run(net: nn.Module, lr: Tensor) -> tuple[Tensor, str]:
    """Return the output, and what is wrong with it; empty when nothing is."""
    try:
        with torch.no_grad():
            sr = net(lr)
    except Exception as error:  # the code may raise anything
        return lr, f"fails with {type(error).__name__}: {shorten(str(error), 200, placeholder=' ...')}"
    if not isinstance(sr, Tensor) or sr.ndim != 4:
        return lr, f"gives {type(sr).__name__} instead of a tensor of four dimensions"
    return sr, ""
